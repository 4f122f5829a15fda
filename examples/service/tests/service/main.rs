//! The built program, as it is run: a child process that answers on a port of loopback.

mod answers;
mod child;
mod exits;
mod killed;
mod world;
