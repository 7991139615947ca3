//! Which partition a key goes to: Kafka's own default for keyed records.

/// The partition of `key` among `partitions`: `murmur2(key) & 0x7fffffff % partitions`,
/// what Kafka's Java client and librdkafka's `murmur2` partitioner compute. With no
/// partition at all (`partitions` below 1) it is 0.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    if partitions < 1 {
        return 0;
    }
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions
}

/// Kafka's variant of MurmurHash2 (`org.apache.kafka.common.utils.Utils.murmur2`): seed
/// 0x9747b28c, little-endian words.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // Keys of 4 GiB do not exist; Kafka's length is a 32-bit integer, too.
    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> R)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_the_known_answers_of_kafkas_own_test() {
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (
                b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            (b"abc", 479_470_107),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key) as i32, expected, "{key:?}");
        }
    }

    #[test]
    fn a_partition_is_never_out_of_range() {
        for n in [i32::MIN, -1, 0, 1, 2, 3, 7, i32::MAX] {
            for key in ["", "a", "foobar", "21"] {
                let partition = partition_of(key.as_bytes(), n);
                assert!((0..n.max(1)).contains(&partition), "{key} {n}");
            }
        }
        assert_eq!(
            partition_of(b"foobar", 12),
            (-790_332_482i32 & 0x7fff_ffff) % 12
        );
    }
}
