//! Checks that a request's bytes have the layout its version demands, before the codec sees them.
//! The codec reserves memory for as many array elements as a request claims to have, and a false
//! claim of two thousand million would end the process; here a claim is refused unless the bytes
//! are there.
//!
//! A layout is a string: `b` 1 byte, `h` 2, `i` 4, `q` 8, `s` string, `B` bytes, `[..]` array of
//! structures, `<..>` array of plain values. Flexible versions write lengths as varints and end
//! every structure with tagged fields.

/// More elements than any client sends, few enough for the memory they take when decoded.
const MAX_ELEMENTS: usize = 200_000;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

struct Walk<'a> {
    bytes: &'a [u8],
    flexible: bool,
    elements: usize,
}

/// Whether `bytes` are exactly one body of this layout.
pub(crate) fn check(layout: &str, flexible: bool, bytes: &[u8]) -> Result<(), Malformed> {
    let mut walk = Walk {
        bytes,
        flexible,
        elements: 0,
    };
    walk.fields(layout.as_bytes())?;
    walk.tags()?;
    if walk.bytes.is_empty() {
        Ok(())
    } else {
        Err(Malformed)
    }
}

impl Walk<'_> {
    fn skip(&mut self, n: usize) -> Result<(), Malformed> {
        self.bytes = self.bytes.get(n..).ok_or(Malformed)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<usize, Malformed> {
        let mut value = 0usize;
        for shift in (0..35).step_by(7) {
            let byte = *self.bytes.first().ok_or(Malformed)?;
            self.skip(1)?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// A length of `width` bytes, or a varint; absent values have length 0.
    fn length(&mut self, width: usize) -> Result<usize, Malformed> {
        if self.flexible {
            return Ok(self.varint()?.saturating_sub(1));
        }
        let value = match (width, self.bytes) {
            (2, [a, b, ..]) => i64::from(i16::from_be_bytes([*a, *b])),
            (4, [a, b, c, d, ..]) => i64::from(i32::from_be_bytes([*a, *b, *c, *d])),
            _ => return Err(Malformed),
        };
        self.skip(width)?;
        match value {
            -1 => Ok(0),
            n => usize::try_from(n).map_err(|_negative| Malformed),
        }
    }

    fn tags(&mut self) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint()?;
        if count > self.bytes.len() {
            return Err(Malformed);
        }
        for _ in 0..count {
            self.varint()?;
            let size = self.varint()?;
            self.skip(size)?;
        }
        Ok(())
    }

    fn fields(&mut self, layout: &[u8]) -> Result<(), Malformed> {
        let mut at = 0;
        while let Some(kind) = layout.get(at) {
            at += 1;
            match kind {
                b'b' => self.skip(1)?,
                b'h' => self.skip(2)?,
                b'i' => self.skip(4)?,
                b'q' => self.skip(8)?,
                b's' => {
                    let length = self.length(2)?;
                    self.skip(length)?;
                }
                b'B' => {
                    let length = self.length(4)?;
                    self.skip(length)?;
                }
                _ => {
                    let inner = inside(&layout[at - 1..]);
                    at += inner.len() + 1;
                    self.array(inner, *kind == b'[')?;
                }
            }
        }
        Ok(())
    }

    fn array(&mut self, inner: &[u8], of_structures: bool) -> Result<(), Malformed> {
        let count = self.length(4)?;
        self.elements = self.elements.saturating_add(count);
        // Every element has at least one byte.
        if count > self.bytes.len() || self.elements > MAX_ELEMENTS {
            return Err(Malformed);
        }
        for _ in 0..count {
            self.fields(inner)?;
            if of_structures {
                self.tags()?;
            }
        }
        Ok(())
    }
}

/// What stands between the bracket `layout` starts with and its partner.
fn inside(layout: &[u8]) -> &[u8] {
    let mut depth = 0;
    for (at, byte) in layout.iter().enumerate() {
        match byte {
            b'[' | b'<' => depth += 1,
            b']' | b'>' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &layout[1..at];
        }
    }
    &layout[1..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_false_claim_of_elements_is_refused() {
        let mut bytes = i32::MAX.to_be_bytes().to_vec();
        bytes.extend([0; 100]);
        assert_eq!(check("<i>", false, &bytes), Err(Malformed));
        assert_eq!(
            check("<i>", true, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]),
            Err(Malformed)
        );
    }

    #[test]
    fn trailing_and_missing_bytes_are_refused() {
        let body = [0, 1, b'x', 0, 0, 0, 1, 0, 0, 0, 7];
        assert_eq!(check("s[i]", false, &body), Ok(()));
        assert_eq!(
            check("s[i]", false, &body[..body.len() - 1]),
            Err(Malformed)
        );
        assert_eq!(
            check("s[i]", false, &[&body[..], &[0]].concat()),
            Err(Malformed)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), flexible: bool) {
            for layout in ["shi[s[iB]]", "s[s<i>]b", "[sih[i<i>][ss]]ib", ""] {
                let _ = check(layout, flexible, &bytes);
            }
        }
    }
}
