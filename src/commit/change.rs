//! Changes of the catalog take their place in the same order as every other commit.
//!
//! The names that commits see are those of the *enqueued* catalog, which changes under the commit
//! lock together with the seq; the catalog on disk follows with the next checkpoint, and the log
//! holds what came since.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use ringdb_uring::planted::{self, Bug};

use crate::alloc::reserve::Need;
use crate::commit::claim::Claim;
use crate::commit::footprint::Footprint;
use crate::commit::submission::{Admission, Owner};
use crate::commit::{Order, Pipeline, Ticket};
use crate::error::{Error, ErrorKind, Result};
use crate::format::catalog::{FAMILIES_MAX, FamilyOptions, Logging};
use crate::format::record::Encoder;
use crate::ids::{FamilyId, Seq};
use crate::state::Family;

/// A change of the catalog.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Create { name: String, logging: Logging },
    Drop { name: String },
    Rename { from: String, to: String },
}

impl Request {
    fn need(&self) -> Need {
        match self {
            Request::Create { .. } => Need::Growth,
            Request::Drop { .. } | Request::Rename { .. } => Need::Relief,
        }
    }
}

impl Pipeline {
    /// Orders a change. The caller publishes the state, then marks the seq applied.
    pub(crate) fn try_change(
        &self,
        request: &Request,
        ticket: &mut Option<Arc<Ticket>>,
        waker: Option<&Waker>,
    ) -> Result<Admission<(Arc<Family>, Seq)>> {
        let mut order = self.enter()?;
        let payload = encode(&order, request)?;
        let claim = Claim {
            commits: 1,
            pieces: 0,
            payload_bytes: payload.len(),
            charge_bytes: 0,
            need: request.need(),
            nodes: 0,
            ranges_are_full: false,
        };
        match self.admit(&mut order, &claim, ticket, &mut None, waker)? {
            Admission::Ordered(()) => {}
            Admission::Wait => return Ok(Admission::Wait),
            Admission::NeedsBuffer(_) => unreachable!("a catalog record fits any group buffer"),
        }
        let seq = self.take_seq(&mut order, &claim);
        order.group.push(seq, &payload);
        order.last_logged = seq;
        let family = apply(&mut order, request, seq);
        let mut footprint = Footprint::default();
        if let Request::Drop { .. } = request {
            footprint.whole_family(family.id);
        }
        order.window.push(seq, &footprint);
        self.leave(order, ticket, Owner::HasMore);
        Ok(Admission::Ordered((family, seq)))
    }

    /// The family of that name in the enqueued catalog.
    pub(crate) fn family(&self, name: &str) -> Option<Arc<Family>> {
        self.order().names.get(name).cloned()
    }

    /// Every family of the enqueued catalog.
    pub(crate) fn families(&self) -> Vec<Arc<Family>> {
        let names = self.order().names.clone();
        names.values().cloned().collect()
    }
}

fn encode(order: &Order, request: &Request) -> Result<Bytes> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    match request {
        Request::Create { name, logging } => {
            vacant(order, name)?;
            if order.names.len() >= FAMILIES_MAX {
                let message =
                    format!("there are {FAMILIES_MAX} column families, and may not be more");
                return Err(Error::new(ErrorKind::TooLarge, message));
            }
            if order.next_family == FamilyId(u32::MAX) {
                return Err(Error::new(ErrorKind::TooLarge, "no ids of column families are left"));
            }
            let options = FamilyOptions { logging: *logging };
            encoder.create_family(order.next_family, name, options);
        }
        Request::Drop { name } => {
            let id = existing(order, name)?.id;
            if !planted::is(Bug::DropNotLogged) {
                encoder.drop_family(id);
            }
        }
        Request::Rename { from, to } => {
            vacant(order, to)?;
            encoder.rename_family(existing(order, from)?.id, to);
        }
    }
    Ok(bytes.into())
}

fn apply(order: &mut Order, request: &Request, seq: Seq) -> Arc<Family> {
    let names = Arc::make_mut(&mut order.names);
    match request {
        Request::Create { name, logging } => {
            let family = Family::new(order.next_family, name, *logging, seq, &order.pool);
            order.next_family = FamilyId(order.next_family.0 + 1);
            names.insert(name.as_str().into(), family.clone());
            family
        }
        Request::Drop { name } => {
            let family = names.remove(name.as_str()).expect("encode found it");
            family.mark_dropped(seq);
            order.mark_dirty(&family);
            family
        }
        Request::Rename { from, to } => {
            let family = names.remove(from.as_str()).expect("encode found it");
            family.rename(to);
            names.insert(to.as_str().into(), family.clone());
            family
        }
    }
}

fn existing<'a>(order: &'a Order, name: &str) -> Result<&'a Arc<Family>> {
    order.names.get(name).ok_or_else(|| {
        let error = Error::new(ErrorKind::NotFound, "there is no such column family");
        error.with_detail(format!("family {name}"))
    })
}

fn vacant(order: &Order, name: &str) -> Result<()> {
    if !order.names.contains_key(name) {
        return Ok(());
    }
    let error = Error::new(ErrorKind::AlreadyExists, "the column family exists already");
    Err(error.with_detail(format!("family {name}")))
}
