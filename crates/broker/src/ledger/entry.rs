//! The entries of the coordinator's journal and their encoding: a kind byte, then fields in a fixed
//! order, strings and lists with a `u32` length. Decoding garbage is an error, never a panic.

/// A committed position of a consumer group in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}

/// Positions by topic and partition.
pub(crate) type Positions = Vec<((String, i32), Position)>;

/// One durable fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Producer ids below this one have been given out.
    ProducerIds { below: i64 },
    /// A transactional id got this producer id and epoch; nothing is open.
    Producer {
        transactional_id: String,
        producer_id: i64,
        epoch: i16,
        timeout_ms: i32,
    },
    /// These partitions take part in the id's transaction, which started then if it was not open.
    TxnPartitions {
        transactional_id: String,
        at_ms: i64,
        partitions: Vec<(String, i32)>,
    },
    /// These positions become the group's when the transaction commits.
    TxnPositions {
        transactional_id: String,
        at_ms: i64,
        group: String,
        positions: Positions,
    },
    /// The transaction ends this way; markers are still to be written.
    Decided {
        transactional_id: String,
        epoch: i16,
        commit: bool,
    },
    /// All markers of the decision are written.
    Finished { transactional_id: String },
    /// A group committed these positions.
    Positions { group: String, positions: Positions },
    /// A group was deleted, with its positions.
    GroupDeleted { group: String },
    /// A topic was deleted, and what groups and transactions knew of it.
    TopicDeleted { topic: String },
}

struct Out(Vec<u8>);

impl Out {
    fn length(&mut self, length: usize) {
        self.0
            .extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
    fn string(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend(text.as_bytes());
    }
    fn partition(&mut self, (topic, partition): &(String, i32)) {
        self.string(topic);
        self.0.extend(partition.to_be_bytes());
    }
    fn positions(&mut self, positions: &Positions) {
        self.length(positions.len());
        for (partition, position) in positions {
            self.partition(partition);
            self.0.extend(position.offset.to_be_bytes());
            self.0.extend(position.leader_epoch.to_be_bytes());
            self.string(&position.metadata);
        }
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }
    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }
    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }
    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }
    fn length(&mut self) -> Option<usize> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        (length <= self.0.len()).then_some(length)
    }
    fn string(&mut self) -> Option<String> {
        let length = self.length()?;
        String::from_utf8(self.bytes(length)?.to_vec()).ok()
    }
    fn partition(&mut self) -> Option<(String, i32)> {
        Some((self.string()?, self.i32()?))
    }
    fn positions(&mut self) -> Option<Positions> {
        (0..self.length()?)
            .map(|_| {
                let partition = self.partition()?;
                let position = Position {
                    offset: self.i64()?,
                    leader_epoch: self.i32()?,
                    metadata: self.string()?,
                };
                Some((partition, position))
            })
            .collect()
    }
}

impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Out(Vec::with_capacity(64));
        match self {
            Self::ProducerIds { below } => {
                out.0.push(1);
                out.0.extend(below.to_be_bytes());
            }
            Self::Producer {
                transactional_id,
                producer_id,
                epoch,
                timeout_ms,
            } => {
                out.0.push(2);
                out.string(transactional_id);
                out.0.extend(producer_id.to_be_bytes());
                out.0.extend(epoch.to_be_bytes());
                out.0.extend(timeout_ms.to_be_bytes());
            }
            Self::TxnPartitions {
                transactional_id,
                at_ms,
                partitions,
            } => {
                out.0.push(3);
                out.string(transactional_id);
                out.0.extend(at_ms.to_be_bytes());
                out.length(partitions.len());
                for partition in partitions {
                    out.partition(partition);
                }
            }
            Self::TxnPositions {
                transactional_id,
                at_ms,
                group,
                positions,
            } => {
                out.0.push(4);
                out.string(transactional_id);
                out.0.extend(at_ms.to_be_bytes());
                out.string(group);
                out.positions(positions);
            }
            Self::Decided {
                transactional_id,
                epoch,
                commit,
            } => {
                out.0.push(5);
                out.string(transactional_id);
                out.0.extend(epoch.to_be_bytes());
                out.0.push(u8::from(*commit));
            }
            Self::Finished { transactional_id } => {
                out.0.push(6);
                out.string(transactional_id);
            }
            Self::Positions { group, positions } => {
                out.0.push(7);
                out.string(group);
                out.positions(positions);
            }
            Self::GroupDeleted { group } => {
                out.0.push(8);
                out.string(group);
            }
            Self::TopicDeleted { topic } => {
                out.0.push(9);
                out.string(topic);
            }
        }
        out.0
    }

    /// Reads an entry; `None` when the bytes are not exactly one entry.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = In(bytes);
        let entry = match from.array::<1>()?[0] {
            1 => Self::ProducerIds { below: from.i64()? },
            2 => Self::Producer {
                transactional_id: from.string()?,
                producer_id: from.i64()?,
                epoch: from.i16()?,
                timeout_ms: from.i32()?,
            },
            3 => Self::TxnPartitions {
                transactional_id: from.string()?,
                at_ms: from.i64()?,
                partitions: (0..from.length()?)
                    .map(|_| from.partition())
                    .collect::<Option<_>>()?,
            },
            4 => Self::TxnPositions {
                transactional_id: from.string()?,
                at_ms: from.i64()?,
                group: from.string()?,
                positions: from.positions()?,
            },
            5 => Self::Decided {
                transactional_id: from.string()?,
                epoch: from.i16()?,
                commit: from.array::<1>()?[0] == 1,
            },
            6 => Self::Finished {
                transactional_id: from.string()?,
            },
            7 => Self::Positions {
                group: from.string()?,
                positions: from.positions()?,
            },
            8 => Self::GroupDeleted {
                group: from.string()?,
            },
            9 => Self::TopicDeleted {
                topic: from.string()?,
            },
            _ => return None,
        };
        from.0.is_empty().then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(entry) = Entry::decode(&bytes) {
                prop_assert_eq!(Entry::decode(&entry.encode()), Some(entry));
            }
        }

        #[test]
        fn positions_come_back_as_they_were(group in ".{0,20}", topic in ".{0,20}", offset: i64, metadata in ".{0,40}") {
            let position = Position { offset, leader_epoch: -1, metadata };
            let entry = Entry::Positions { group, positions: vec![((topic, 3), position)] };
            prop_assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        }
    }
}
