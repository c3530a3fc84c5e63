//! What a relayed cell costs at least on this machine.
//!
//! Lives here: opening and sealing at the length of a full frame, one onion layer, and moving the
//! bytes from one socket to another without looking at them. Does not live here: the relay.
//!
//! A router that costs as much as the sum does nothing else: no scheduling, no copy, no wake-up.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use warren_overlay::{
    crypto::{
        aead::Aead,
        onion::{Direction, LayerKeys, RelayForward},
        secret::Secret,
    },
    link::{channel, frame},
    plane::{CELL_BODY_LEN, CELL_LEN},
};

use super::{
    figures::LimitFigures,
    meter::{median, nanoseconds_per, thread_cpu},
};
use crate::entropy;

/// Cells in one sample of a cipher, in whole frames.
const SAMPLE_FRAMES: u64 = 1_000;
/// Cells in one sample of the sockets: 64 MiB.
const SAMPLE_BYTES: u64 = 64 << 20;
const SAMPLES: usize = 7;
/// Bytes per read and write, as in the router's driver.
const READ_LEN: usize = 64 * 1_024;

/// A full frame's plaintext and what it takes on the wire.
pub(super) const PLAIN_LEN: usize = 2 + frame::CELLS_MAX * CELL_LEN;
const FRAME_LEN: usize = channel::HEAD_LEN + PLAIN_LEN + 16;

/// Measures them all.
///
/// # Errors
/// When the loopback cannot be used.
pub(super) fn measure() -> io::Result<LimitFigures> {
    let aead_ns = aead();
    let onion_ns = onion();
    let loopback_ns = loopback()?;
    Ok(LimitFigures { aead_ns, onion_ns, loopback_ns })
}

/// `bytes` in so many nanoseconds, in MiB a second.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(super) fn mib_per_s(bytes: usize, nanoseconds: f64) -> f64 {
    bytes as f64 / 1_048_576.0 / (nanoseconds / 1e9)
}

fn cpu(work: impl FnOnce()) -> Duration {
    let start = thread_cpu();
    work();
    thread_cpu().saturating_sub(start)
}

fn aead() -> f64 {
    let aead = Aead::new(&Secret::random(&mut entropy::generator()));
    let mut data = vec![0; PLAIN_LEN];
    let cells = SAMPLE_FRAMES * frame::CELLS_MAX as u64;
    let sample = |_| {
        let time = cpu(|| {
            for nonce in 0..SAMPLE_FRAMES {
                let tag = aead.seal_in_place(nonce, &[0; 2], &mut data);
                let opened = aead.open_in_place(nonce, &[0; 2], &mut data, &tag);
                std::hint::black_box(opened.is_ok());
            }
        });
        nanoseconds_per(time, cells)
    };
    median((0..SAMPLES).map(sample))
}

fn onion() -> f64 {
    let secret = Secret::random(&mut entropy::generator());
    let mut layer = RelayForward::new(LayerKeys::derive(&secret, Direction::Forward));
    let mut cell = [0; CELL_BODY_LEN];
    let cells = SAMPLE_FRAMES * frame::CELLS_MAX as u64;
    let sample = |_| {
        let time = cpu(|| {
            for _ in 0..cells {
                layer.relay(&mut cell);
            }
        });
        nanoseconds_per(time, cells)
    };
    median((0..SAMPLES).map(sample))
}

/// CPU of a thread that reads from one socket and writes to another, for one cell's share of a
/// frame.
fn loopback() -> io::Result<f64> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        samples.push(forward()?);
    }
    Ok(median(samples))
}

fn forward() -> io::Result<f64> {
    let (mut left, mut left_far) = pair()?;
    let (mut right, mut right_far) = pair()?;
    let source = thread::spawn(move || -> io::Result<()> {
        let data = vec![7; READ_LEN];
        for _ in 0..SAMPLE_BYTES / READ_LEN as u64 {
            left_far.write_all(&data)?;
        }
        Ok(())
    });
    let sink = thread::spawn(move || -> io::Result<()> {
        let mut data = vec![0; READ_LEN];
        while right_far.read(&mut data)? > 0 {}
        Ok(())
    });
    let mut data = vec![0; READ_LEN];
    let mut moved = 0;
    let start = thread_cpu();
    loop {
        let n = left.read(&mut data)?;
        if n == 0 {
            break;
        }
        moved += n as u64;
        right.write_all(data.get(..n).unwrap_or_default())?;
    }
    let time = thread_cpu().saturating_sub(start);
    drop(right);
    for thread in [source, sink] {
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a copying thread stopped")))?;
    }
    let cells = moved * frame::CELLS_MAX as u64 / FRAME_LEN as u64;
    Ok(nanoseconds_per(time, cells))
}

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let far = TcpStream::connect(listener.local_addr()?)?;
    let (near, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}
