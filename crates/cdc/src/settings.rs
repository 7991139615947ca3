use ftap_lake::{Compression, RollingSettings};

/// The change capture: PostgreSQL tables into the lake.
#[derive(Clone, Debug)]
pub struct CaptureSettings {
    /// Our replication slot.
    pub slot: String,
    pub publication: String,
    /// When files are closed, all tables of a flush together.
    pub rolling: RollingSettings,
    pub compression: Compression,
    /// Names this process in file footers.
    pub writer_id: String,
}
