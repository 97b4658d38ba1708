//! Nodes that move although nothing in them changes.

use fastrand::Rng;

use super::*;

fn key_of(number: u32) -> Vec<u8> {
    format!("{number:08}").into_bytes()
}

/// A tree whose nodes lie where they were last written: some low, some high.
fn scattered(store: &mut Store) -> TreeRoot {
    let rows = (0..60_000).map(|number| (key_of(number), vec![7; 100]));
    let mut root = store.build(rows).unwrap();
    let mut rng = Rng::with_seed(5);
    for _ in 0..4 {
        let mut changes = Model::new();
        for _ in 0..60 {
            let key = key_of(rng.u32(..60_000));
            changes.insert(key, if rng.bool() { put(&[8; 90]) } else { Change::Delete });
        }
        let changes = changes.into_iter().collect();
        root = store.merge(Some(root), changes, Vec::new(), SETTINGS).unwrap();
    }
    root
}

fn beyond(store: &Store, limit: u64) -> usize {
    store.live.iter().filter(|(page, pages)| page.0 + u64::from(**pages) > limit).count()
}

#[test]
fn every_node_beyond_the_limit_is_written_again_and_few_others() {
    for share in [0, 1, 2, 3, 4] {
        let mut store = Store::default();
        let base = scattered(&mut store);
        let (rows, last) = (store.rows(Some(&base)), store.next_page);
        let limit = (last + 1) * share / 4;
        let high = beyond(&store, limit);
        // What is written from now on lies elsewhere.
        store.next_page = 1 << 40;
        let moves = Moves::new(PageId(limit), Vec::new(), u64::MAX);
        let (root, rest) = store.move_nodes(base, moves);
        assert_eq!((store.rows(root.as_ref()), rest), (rows, None));
        let low = store.live.keys().filter(|page| page.0 <= last);
        assert!(low.clone().all(|page| page.0 < limit), "{share}");
        let few = 4 + high / 8 + usize::from(base.height) * 64;
        assert!(store.written <= high + few, "{} written for {high}", store.written);
        if share == 4 {
            assert_eq!((root, store.written), (Some(base), 0));
        }
        let leaves = store.needs.iter().filter(|wanted| wanted.level == 0).count();
        assert!(leaves <= high + few, "{leaves} leaves were read for {high}");
    }
}

#[test]
fn nodes_move_a_bounded_number_at_a_time() {
    let mut store = Store::default();
    let mut root = scattered(&mut store);
    let (rows, limit) = (store.rows(Some(&root)), store.next_page / 2);
    let (mut from, mut slices) = (Vec::new(), 0);
    store.next_page = 1 << 40;
    loop {
        let (high, limit) = (beyond(&store, limit), PageId(limit));
        let (moved, rest) = store.move_nodes(root, Moves::new(limit, from.clone(), 20));
        root = moved.unwrap();
        assert_eq!(store.rows(Some(&root)), rows);
        assert!(store.written <= 20 + 12, "{} of {high} at once", store.written);
        slices += 1;
        let Some(rest) = rest else { break };
        assert!(rest > from, "it goes on behind what was moved");
        from = rest;
    }
    assert!(slices > 10, "{slices} slices");
    assert!(store.live.keys().all(|page| page.0 < limit || page.0 > 1 << 40));
}

#[test]
fn nodes_that_are_to_move_are_hinted() {
    let mut store = Store::default();
    let base = scattered(&mut store);
    let moves = Moves::new(PageId(store.next_page / 2), Vec::new(), u64::MAX);
    store.move_nodes(base, moves);
    let leaves: Vec<_> = store.needs.iter().filter(|wanted| wanted.level == 0).collect();
    let hinted = leaves.iter().filter(|wanted| store.hints.contains(wanted)).count();
    assert!(hinted * 10 >= leaves.len() * 9, "{hinted} of {} were hinted", leaves.len());
}
