//! `ftap` in a pseudo terminal of 80 columns, as a person sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::PATIENCE;

pub(crate) const COLUMNS: u16 = 80;

/// A process in a terminal; killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub(crate) fn start(mut command: Command) -> Self {
        let size = libc::winsize {
            ws_row: 40,
            ws_col: COLUMNS,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (mut ours, mut theirs) = (0, 0);
        // SAFETY: the pointers are valid, and null stands for "no name" and "default modes".
        let made = unsafe {
            libc::openpty(
                &mut ours,
                &mut theirs,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                &raw const size as *mut _,
            )
        };
        assert_eq!(made, 0, "a terminal can't be made");
        // SAFETY: openpty made both, and nothing else has them.
        let (ours, theirs) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
        // SAFETY: both calls are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs.try_clone().unwrap())
            .spawn()
            .unwrap();
        // The command holds copies of its own.
        drop((command, theirs));
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (mut screen, into) = (ours.try_clone().unwrap(), shown.clone());
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            // The end of the last process on it is an error of the terminal.
            while let Ok(read @ 1..) = screen.read(&mut part) {
                into.lock().unwrap().extend_from_slice(&part[..read]);
            }
        });
        Self {
            child,
            keyboard: ours,
            shown,
        }
    }

    /// Everything written so far, line by line, without control sequences.
    pub(crate) fn text(&self) -> String {
        plain(&self.shown.lock().unwrap())
    }

    /// Waits until something was written.
    #[track_caller]
    pub(crate) fn wait_for(&self, part: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.text().contains(part) {
            assert!(Instant::now() < end, "no {part:?} in\n{}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the end: exit code and everything that was written.
    #[track_caller]
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // What it wrote last may still be on its way.
                std::thread::sleep(std::time::Duration::from_millis(200));
                return (status.code(), self.text());
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Without escape sequences; what the cursor goes back for is a line of its own.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    let mut signs = text.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\x1b' => {
                // `ESC [ parameters letter`
                if signs.next() == Some('[') {
                    let end = signs.by_ref().find(|sign| sign.is_ascii_alphabetic());
                    assert!(end.is_some() || signs.next().is_none());
                }
            }
            '\r' => out.push('\n'),
            // A terminal shows nothing for it.
            '\x03' => {}
            sign => out.push(sign),
        }
    }
    out
}
