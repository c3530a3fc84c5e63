//! Both ends of tunnels, joined through real onion layers, in memory and without a clock.

mod blocks;
mod hostile;
mod splices;
mod world;
