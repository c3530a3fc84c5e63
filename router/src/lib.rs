//! The Warren router as a library: settings, the control plane, and the single-threaded
//! composition of all machines that both the simulator and the driver run.

pub mod app;
#[cfg(feature = "app")]
mod backup;
#[cfg(feature = "app")]
pub mod bench;
#[cfg(feature = "app")]
pub mod cli;
pub mod config;
#[cfg(feature = "app")]
mod driver;
#[cfg(feature = "app")]
mod entropy;
#[cfg(feature = "app")]
mod home;
pub mod host;
pub mod invite;
pub mod job;
#[cfg(feature = "app")]
mod lan;
pub mod node;
#[cfg(feature = "app")]
mod remedy;
pub mod status;
