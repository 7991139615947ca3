//! Whom the server runs as: this process' user, or if that is root, an account that may.

use std::ffi::CString;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::PostgresClusterError;

/// Whom PostgreSQL's programs run as.
#[derive(Clone, Debug)]
pub(super) struct Account {
    /// `None`: as this process does.
    switch_to: Option<Ids>,
}

#[derive(Clone, Debug)]
struct Ids {
    name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account for a cluster in this folder: its owner's if it has been used already.
    pub(super) fn for_folder(base: &Path) -> Result<Self, PostgresClusterError> {
        if user_id() != 0 {
            return Ok(Self { switch_to: None });
        }
        let owner = std::fs::metadata(base.join("cluster"))
            .ok()
            .filter(|metadata| metadata.uid() != 0)
            .map(|metadata| Ids {
                name: metadata.uid().to_string(),
                uid: metadata.uid(),
                gid: metadata.gid(),
            });
        let ids = owner
            .or_else(|| look_up("postgres"))
            .or_else(|| look_up("nobody"))
            .ok_or(PostgresClusterError::NoAccount)?;
        Ok(Self {
            switch_to: Some(ids),
        })
    }

    /// Says whose the cluster's files are if they are not the account's, before the system or the
    /// server says less about it. The contents of a folder that root takes over must belong to the account, too.
    pub(super) fn owns(&self, base: &Path) -> Result<(), PostgresClusterError> {
        let (path, uid, account) = match &self.switch_to {
            Some(ids) => (base.join("cluster"), ids.uid, ids.name.clone()),
            None => (base.to_path_buf(), user_id(), user_id().to_string()),
        };
        match std::fs::metadata(path).map(|metadata| metadata.uid()) {
            Ok(owner) if owner != uid => Err(PostgresClusterError::OtherOwner {
                path: base.to_path_buf(),
                owner,
                account,
            }),
            // What is not there yet will be its own.
            _ => Ok(()),
        }
    }

    /// Whether the system knows a name for the account, without which initdb makes no cluster.
    pub(super) fn has_name(&self) -> Result<(), PostgresClusterError> {
        let user_id = user_id();
        if self.switch_to.is_some() || is_known(user_id) {
            Ok(())
        } else {
            Err(PostgresClusterError::UnknownUser { user_id })
        }
    }

    /// Makes a folder the account's own, closed to all others.
    pub(super) fn take_over(&self, folder: &Path) -> Result<(), PostgresClusterError> {
        self.own(folder, 0o700)
    }

    /// Gives a path to the account with this mode.
    pub(super) fn own(&self, path: &Path, mode: u32) -> Result<(), PostgresClusterError> {
        let result = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
        let result = match &self.switch_to {
            Some(ids) => result.and_then(|()| chown(path, Some(ids.uid), Some(ids.gid))),
            None => result,
        };
        result.map_err(|source| PostgresClusterError::folder(path, source))
    }

    /// Says which folder on the way the account can't enter, before the server says less about it.
    pub(super) fn can_reach(&self, base: &Path) -> Result<(), PostgresClusterError> {
        let Some(ids) = &self.switch_to else {
            return Ok(());
        };
        let closed = base.ancestors().skip(1).find(|folder| {
            std::fs::metadata(folder).is_ok_and(|metadata| {
                let mode = metadata.mode();
                let may_enter = if metadata.uid() == ids.uid {
                    mode & 0o100
                } else if metadata.gid() == ids.gid {
                    mode & 0o010
                } else {
                    mode & 0o001
                };
                may_enter == 0
            })
        });
        match closed {
            Some(closed) => Err(PostgresClusterError::Unreachable {
                account: ids.name.clone(),
                closed: closed.to_path_buf(),
                path: base.to_path_buf(),
            }),
            None => Ok(()),
        }
    }

    /// A command that runs as the account, out of reach of the terminal's Ctrl-C: the stages that
    /// use the server are to stop before it does.
    pub(super) fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            // These would send the programs elsewhere.
            .env_remove("PGDATA")
            .env_remove("PGPORT")
            .env_remove("PGHOST")
            .env_remove("PGOPTIONS")
            .stdin(Stdio::null())
            .process_group(0);
        if let Some(ids) = &self.switch_to {
            // The standard library drops the supplementary groups as well when it is root.
            command.uid(ids.uid).gid(ids.gid);
        }
        command
    }
}

fn user_id() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

fn is_known(uid: u32) -> bool {
    let mut buffer = vec![0; 16 * 1024];
    // SAFETY: as in `look_up`.
    unsafe {
        let mut entry: libc::passwd = std::mem::zeroed();
        let mut found = std::ptr::null_mut();
        let code = libc::getpwuid_r(
            uid,
            &mut entry,
            buffer.as_mut_ptr(),
            buffer.len(),
            &mut found,
        );
        code == 0 && !found.is_null()
    }
}

fn look_up(name: &str) -> Option<Ids> {
    let wanted = CString::new(name).ok()?;
    let mut buffer = vec![0; 16 * 1024];
    // SAFETY: passwd is plain pointers and numbers, for which all zeros is a value. getpwnam_r
    // writes into `entry` and `buffer` only, whose length it is given; nothing of them is kept.
    unsafe {
        let mut entry: libc::passwd = std::mem::zeroed();
        let mut found = std::ptr::null_mut();
        let code = libc::getpwnam_r(
            wanted.as_ptr(),
            &mut entry,
            buffer.as_mut_ptr(),
            buffer.len(),
            &mut found,
        );
        (code == 0 && !found.is_null()).then(|| Ids {
            name: name.to_owned(),
            uid: entry.pw_uid,
            gid: entry.pw_gid,
        })
    }
}
