//! A line as a picture that a telephone reads off a terminal.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};

use super::Failure;

/// The line as a QR code, two modules a character, light on dark as terminals are; capital letters take
/// least room, and our lines are read in either.
///
/// # Errors
/// When the line is too long for one.
pub(super) fn picture(line: &str) -> Result<String, Failure> {
    let text = line.to_ascii_uppercase();
    let code = QrCode::with_error_correction_level(text, EcLevel::L)
        .map_err(|_| Failure::Other("the line is too long for a QR code: go without it".into()))?;
    let (dark, light) = (Dense1x2::Light, Dense1x2::Dark);
    Ok(code.render::<Dense1x2>().dark_color(dark).light_color(light).build())
}
