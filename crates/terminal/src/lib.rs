//! For the programs of Redeliver: writing to a terminal, a pipe or a full disk, and being
//! interrupted. Nobody else needs it.

pub mod interrupt;
pub mod out;
