//! Hostile files: a real database, edited by the fuzzer's bytes, sealed again with good checksums,
//! then opened, read and written by the whole engine.
//!
//! A flipped bit that a checksum catches tests the checksum alone. So every edit is followed by
//! [`seal`], which walks the file as the engine would and repairs every checksum on the way: from
//! the leaves up to the roots, the catalog, the free map, the groups of the log in their chain,
//! and the superblock last. What is left is content that only the decoders can refuse.
//!
//! Whatever the bytes, there is no panic on any thread, no abort, no hang, no answer without end
//! and no memory beyond a bound; an error is typed. The runners look after panics, memory and
//! time; [`act`] looks at the rest.
//!
//! The integration suite of the engine has these modules as its own (`tests/suite/hostile.rs`), so
//! they name each other by `super`.

mod act;
mod edit;
mod image;
mod map;
mod seal;
#[path = "../../tests/suite/golden/sparse.rs"]
#[allow(dead_code, reason = "only its tests write here")]
#[allow(clippy::duplicate_mod, reason = "the suite has it, too, and these targets")]
mod sparse;

use std::sync::LazyLock;

use act::Depth;
use edit::Edits;
use image::Image;
use map::Kind;

/// What is edited, and how far the engine is then taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The superblock: its fields, blob references and chapters.
    Superblock,
    /// The catalog and the free map.
    Catalog,
    /// Leaves and inner nodes, and the references that name them.
    Nodes,
    /// Heads of segments, groups, and the commits in them: replayed, then merged.
    Log,
    /// Everything, sealed or not, read in every way there is.
    OpenRead,
    /// Everything, written, merged, closed and opened again.
    OpenWrite,
}

impl Target {
    /// Each of them.
    pub const ALL: [Target; 6] = [
        Target::Superblock,
        Target::Catalog,
        Target::Nodes,
        Target::Log,
        Target::OpenRead,
        Target::OpenWrite,
    ];

    /// Its name, as its corpus has it.
    pub fn name(self) -> &'static str {
        match self {
            Target::Superblock => "superblock",
            Target::Catalog => "catalog",
            Target::Nodes => "nodes",
            Target::Log => "log",
            Target::OpenRead => "open_read",
            Target::OpenWrite => "open_write",
        }
    }

    fn edits(self) -> &'static [Kind] {
        match self {
            Target::Superblock => &[Kind::Superblock],
            Target::Catalog => &[Kind::Catalog, Kind::FreeMap],
            Target::Nodes => &[Kind::Node, Kind::Root, Kind::Filter],
            Target::Log => &[Kind::SegmentHead, Kind::Group, Kind::Chapter],
            Target::OpenRead | Target::OpenWrite => &Kind::ALL,
        }
    }

    fn depth(self) -> Depth {
        match self {
            Target::OpenRead => Depth::Reads,
            Target::Superblock | Target::Catalog | Target::Nodes | Target::Log => Depth::Merges,
            Target::OpenWrite => Depth::Writes,
        }
    }
}

/// How a run ended: what the bytes were good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file did not open.
    Refused,
    /// It opened, and some call answered with an error or `check` with a defect.
    Noticed,
    /// Nothing was noticed.
    Accepted,
}

static IMAGE: LazyLock<Image> = LazyLock::new(Image::kept);

/// Edits the kept database as the input says and takes the engine through it.
///
/// # Panics
///
/// If the engine answered with an error of a kind that bytes cannot be the cause of, or without end.
pub fn outcome(target: Target, input: &[u8]) -> Outcome {
    let mut bytes = IMAGE.bytes.clone();
    let edits = Edits::new(target.edits(), input);
    let sealed = edits.apply(&IMAGE, &mut bytes);
    if sealed {
        seal::seal(&mut bytes, IMAGE.slot_at);
    }
    act::act(&bytes, target.depth())
}

/// The same for libFuzzer, which wants no answer.
pub fn run(target: Target, input: &[u8]) {
    outcome(target, input);
}
