//! Each checker on small histories: silent on what is legal, red on what is broken.

mod books;
mod bounds;
mod effects;
mod ordering;
mod pace;
mod synthetic;
