//! The Warren router as a library: settings, the control plane, and the single-threaded
//! composition of all machines that both the simulator and the driver run.

#[cfg(feature = "app")]
pub mod bench;
pub mod config;
