//! Looking at rows some time before they are inserted.

use std::collections::VecDeque;

use super::version::NewRow;

/// Rows that are looked at and wait.
const ROWS_AHEAD: usize = 8;

/// Rows, each of which is looked at while the ones before it are inserted.
pub(super) struct Ahead<'a, Rows, Look> {
    rows: Rows,
    look: Look,
    waiting: VecDeque<NewRow<'a>>,
}

impl<'a, Rows: Iterator<Item = NewRow<'a>>, Look: Fn(&NewRow<'a>)> Ahead<'a, Rows, Look> {
    pub(super) fn new(rows: Rows, look: Look) -> Ahead<'a, Rows, Look> {
        Ahead { rows, look, waiting: VecDeque::with_capacity(ROWS_AHEAD) }
    }
}

impl<'a, Rows: Iterator<Item = NewRow<'a>>, Look: Fn(&NewRow<'a>)> Iterator
    for Ahead<'a, Rows, Look>
{
    type Item = NewRow<'a>;

    fn next(&mut self) -> Option<NewRow<'a>> {
        while self.waiting.len() < ROWS_AHEAD
            && let Some(row) = self.rows.next()
        {
            (self.look)(&row);
            self.waiting.push_back(row);
        }
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::ids::Seq;
    use crate::memtable::Kind;

    #[test]
    fn rows_come_in_order_and_are_looked_at_ahead() {
        let row = |seq| NewRow { seq: Seq(seq), kind: Kind::Delete, bytes: b"key", key_len: 3 };
        let looked = RefCell::new(0);
        let mut rows = Ahead::new((0..20).map(row), |_| *looked.borrow_mut() += 1);
        for seq in 0..20 {
            assert_eq!(rows.next().map(|row| row.seq), Some(Seq(seq)));
            assert_eq!(*looked.borrow(), (seq + ROWS_AHEAD as u64).min(20));
        }
        assert!(rows.next().is_none());
    }
}
