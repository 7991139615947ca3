//! The buffer a response is built in. File contents are read straight into it, so a fetched byte is
//! copied once from the page cache and once to the socket. Its memory is kept between responses and
//! is initialised only once.

/// A connection gives memory above this back after each response; a consumer's answers of the default
/// `max_fetch_bytes` fit.
const KEPT_BYTES: usize = 17 << 20;

#[derive(Debug, Default)]
pub(crate) struct ResponseBuffer {
    bytes: Vec<u8>,
    len: usize,
}

impl ResponseBuffer {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
        if self.bytes.len() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
    }

    /// Makes the buffer `len` bytes long and gives the part from `from` on for writing into.
    pub(crate) fn grow_to(&mut self, len: usize, from: usize) -> &mut [u8] {
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
        self.len = len;
        &mut self.bytes[from..len]
    }

    pub(crate) fn tail(&self, from: usize) -> &[u8] {
        &self.bytes[from..self.len]
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let at = self.len;
        self.grow_to(at + bytes.len(), at).copy_from_slice(bytes);
    }

    pub(crate) fn put_i16(&mut self, value: i16) {
        self.put(&value.to_be_bytes());
    }

    pub(crate) fn put_i32(&mut self, value: i32) {
        self.put(&value.to_be_bytes());
    }

    pub(crate) fn put_i64(&mut self, value: i64) {
        self.put(&value.to_be_bytes());
    }

    pub(crate) fn put_string(&mut self, value: &str) {
        self.put_i16(i16::try_from(value.len()).unwrap_or(0));
        self.put(value.as_bytes());
    }

    /// Overwrites four bytes written before, such as a length known only now.
    pub(crate) fn set_i32(&mut self, at: usize, value: i32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn set_i16(&mut self, at: usize, value: i16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// Puts `inserted` at `at`, moving what follows.
    pub(crate) fn insert(&mut self, at: usize, inserted: &[u8]) {
        let end = self.len;
        self.grow_to(end + inserted.len(), end);
        self.bytes.copy_within(at..end, at + inserted.len());
        self.bytes[at..at + inserted.len()].copy_from_slice(inserted);
    }
}
