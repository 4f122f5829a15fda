//! A real PostgreSQL under the seeded world: sessions of simulated processes, their locks, clocks,
//! crashes and commits, by seed.

mod pipeline;
mod world;
