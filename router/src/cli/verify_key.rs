//! `warren verify-key URI`: what to give to whoever looks after a file and need not read it.
//!
//! Lives here: a step down from one key to another. It asks no router. Does not live here: what such a
//! key can do (`warren check`, `heal`, `pin`).

use clap::Args;
use serde::Serialize;
use warren_datastore::uri::Uri;

use super::{Failure, print, print_json};

/// `warren verify-key URI`
#[derive(Args, Debug)]
pub(super) struct VerifyKey {
    /// The key of a file or folder
    uri: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Printed {
    uri: String,
}

pub(super) fn verify_key(args: &VerifyKey) -> Result<(), Failure> {
    let key = match args.uri.parse() {
        Ok(Uri::File(cap)) => Uri::FileVerify(cap.verify()),
        Ok(Uri::Directory(cap)) => Uri::DirectoryVerify(cap.verify()),
        Ok(it @ (Uri::FileVerify(_) | Uri::DirectoryVerify(_))) => it,
        Ok(_) => {
            return Err(Failure::Other(
                "this is the key of a site, not of a file: `warren pin` takes a site by its name"
                    .into(),
            ));
        }
        Err(error) => return Err(Failure::Other(error.to_string())),
    };
    let uri = key.to_string();
    if args.json { print_json(&Printed { uri }) } else { print(format_args!("{uri}")) }
}
