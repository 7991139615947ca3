//! Keeps the terminal from writing `^C` into the live status: at the end of its last line it would
//! wrap, and the status would be redrawn a line too low.

use parking_lot::Mutex;

/// How the terminal was, as long as it is changed.
static SAVED: Mutex<Option<libc::termios>> = parking_lot::const_mutex(None);

/// Stops it from showing control characters, if this process is in its foreground.
pub(crate) fn hide_control_keys() {
    // A process in the background would be stopped for changing the terminal.
    // SAFETY: neither call touches memory of ours.
    let is_in_front = unsafe { libc::tcgetpgrp(libc::STDERR_FILENO) == libc::getpgrp() };
    if !is_in_front {
        return;
    }
    // SAFETY: termios is plain numbers, for which all zeros is a value; tcgetattr only writes to it.
    let (known, mut modes) = unsafe {
        let mut modes: libc::termios = std::mem::zeroed();
        (libc::tcgetattr(libc::STDERR_FILENO, &mut modes) == 0, modes)
    };
    if !known || modes.c_lflag & libc::ECHOCTL == 0 {
        return;
    }
    *SAVED.lock() = Some(modes);
    modes.c_lflag &= !libc::ECHOCTL;
    set(&modes);
}

/// Makes the terminal as it was; also for the ends of the process that drop nothing.
pub(crate) fn restore() {
    let saved = SAVED.lock().take();
    if let Some(modes) = saved {
        set(&modes);
    }
}

fn set(modes: &libc::termios) {
    // Failing costs a `^C` on the screen.
    // SAFETY: the pointer is valid, and tcsetattr only reads from it.
    unsafe { libc::tcsetattr(libc::STDERR_FILENO, libc::TCSANOW, modes) };
}
