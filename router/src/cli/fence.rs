//! What the kernel lets a running router do to this machine's files (Linux, Landlock).
//!
//! Lives here: the fence around `warren run`, for the case that a router is taken over: it writes in
//! its own folder alone, starts no program, and sends no signal to others. It may read what its user
//! may read, since `warren put` names files anywhere. Does not live here: what a service manager
//! allows (`config/warren.service`).

use std::{fs, path::Path};

use landlock::{
    ABI, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};

/// The newest interface whose rights are named; an older kernel enforces those that it knows.
const NEWEST: ABI = ABI::V6;

/// Fences this thread and all that it starts from now on into `dir`, and into the folders that links
/// directly in it lead to. False where the kernel cannot, which is no reason not to run.
///
/// # Errors
/// When a kernel that can refuses.
pub(super) fn raise(dir: &Path) -> Result<bool, RulesetError> {
    let linked = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let linked = linked.filter(|path| path.is_symlink());
    let places: Vec<_> = [dir.to_owned(), "/dev/null".into()].into_iter().chain(linked).collect();
    let status = Ruleset::default()
        .handle_access(AccessFs::from_write(NEWEST) | AccessFs::Execute)?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(places, AccessFs::from_write(NEWEST)))?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use std::{env, io::ErrorKind, process, process::Command, thread};

    use super::*;

    #[test]
    fn behind_the_fence_a_router_writes_in_its_folder_alone_and_starts_nothing() {
        let scratch = env::temp_dir().join(format!("warren-fence-{}", process::id()));
        let (own, elsewhere, disk) =
            (scratch.join("own"), scratch.join("elsewhere"), scratch.join("disk"));
        for dir in [&own, &elsewhere, &disk] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write(elsewhere.join("file"), "theirs").unwrap();
        std::os::unix::fs::symlink(&disk, own.join("blocks")).unwrap();
        let fenced = thread::scope(|scope| {
            let behind = || {
                if !raise(&own).unwrap() {
                    return false;
                }
                let refused = |result: std::io::Result<()>| {
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
                };
                refused(fs::write(elsewhere.join("new"), "x"));
                refused(fs::write(elsewhere.join("file"), "x"));
                refused(fs::remove_file(elsewhere.join("file")));
                refused(Command::new("/bin/true").status().map(drop));
                fs::write(own.join("new"), "x").unwrap();
                fs::create_dir(own.join("folder")).unwrap();
                fs::rename(own.join("new"), own.join("folder/new")).unwrap();
                fs::write(own.join("blocks/new"), "x").unwrap();
                assert_eq!(fs::read(elsewhere.join("file")).unwrap(), b"theirs");
                true
            };
            scope.spawn(behind).join().unwrap()
        });
        fs::remove_dir_all(&scratch).unwrap();
        // Containers and old kernels have none; then there is nothing to see.
        assert!(
            fenced
                || !fs::read_to_string("/sys/kernel/security/lsm")
                    .is_ok_and(|all| all.contains("landlock"))
        );
    }
}
