//! Every request in every version this broker claims to take gets an answer. An answer whose fields
//! do not fit the request's version cannot be encoded, which only a client of that version would
//! notice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::api::table::{SUPPORTED, layout};
use crate::{Broker, BrokerOptions};

/// A body of that layout: arrays of one element, strings "t", numbers 1 and times 0.
fn body(layout: &str, flexible: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for kind in layout.chars() {
        match kind {
            'b' => out.push(0),
            'h' => out.extend(1i16.to_be_bytes()),
            'i' => out.extend(1i32.to_be_bytes()),
            'q' => out.extend(0i64.to_be_bytes()),
            's' if flexible => out.extend(*b"\x02t"),
            's' => out.extend(*b"\0\x01t"),
            'B' if flexible => out.push(1),
            'B' => out.extend(0i32.to_be_bytes()),
            '[' | '<' if flexible => out.push(2),
            '[' | '<' => out.extend(1i32.to_be_bytes()),
            // The tagged fields that end a structure.
            ']' if flexible => out.push(0),
            _ => {}
        }
    }
    if flexible {
        out.push(0);
    }
    out
}

#[test]
fn every_request_is_answered_in_every_version() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(BrokerOptions {
        data_dir: dir.path().to_path_buf(),
        ..BrokerOptions::default()
    });
    let broker = broker.unwrap();
    for (api, min, max) in SUPPORTED {
        for version in *min..=*max {
            let flexible = api.request_header_version(version) >= 2;
            let mut frame = (*api as i16).to_be_bytes().to_vec();
            frame.extend(version.to_be_bytes());
            frame.extend(7i32.to_be_bytes());
            frame.extend(*b"\0\x01c");
            if flexible {
                frame.push(0);
            }
            frame.extend(body(layout(*api, version), flexible));
            let mut stream = TcpStream::connect(broker.addr()).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            let length = i32::try_from(frame.len()).unwrap();
            stream.write_all(&length.to_be_bytes()).unwrap();
            stream.write_all(&frame).unwrap();
            let mut answer = [0; 8];
            let read = stream.read_exact(&mut answer);
            assert!(read.is_ok(), "{api:?} version {version}: {read:?}");
            assert_eq!(answer[4..], 7i32.to_be_bytes(), "{api:?} version {version}");
        }
    }
}
