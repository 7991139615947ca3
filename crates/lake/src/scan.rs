//! Reading the lake's store without reading its rows: listings one by one, footers, small objects.
//!
//! Promises: memory does not grow with the number of objects; a footer costs one request for the
//! object's end, two if it is a large one. What is given is what the store said, or an error.

use std::ops::ControlFlow;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore as _, ObjectStoreExt as _};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::error::LakeError;
use super::store::LakeStore;

/// Read from an object's end at first; most footers fit.
const FOOTER_GUESS_BYTES: u64 = 64 << 10;
/// A footer beyond this is not ours.
const FOOTER_MAX_BYTES: u64 = 64 << 20;

impl LakeStore {
    /// Gives key and size in bytes of each object under a folder to `take`, until it breaks.
    pub async fn scan(
        &self,
        folder: &str,
        mut take: impl FnMut(&str, u64) -> ControlFlow<()>,
    ) -> Result<(), LakeError> {
        let prefix = Path::from(folder);
        let store = self.object_store();
        let mut listed = store.list(Some(&prefix));
        while let Some(object) = listed.next().await {
            let object = object.map_err(|error| self.error("list", folder, &error))?;
            if take(object.location.as_ref(), object.size).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// A whole object, `None` if there is none.
    pub async fn get_if_there(&self, key: &str) -> Result<Option<Bytes>, LakeError> {
        let path = self.path(key)?;
        let read = async { self.object_store().get(&path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            // A bucket that is not there is no answer about its objects.
            Err(error @ object_store::Error::NotFound { .. })
                if !error.to_string().contains("NoSuchBucket") =>
            {
                Ok(None)
            }
            Err(error) => Err(self.error("read", key, &error)),
        }
    }

    /// The key-value pairs of an object's footer.
    pub async fn footer_pairs(
        &self,
        key: &str,
    ) -> Result<Vec<(String, Option<String>)>, LakeError> {
        let metadata = self.parquet_metadata(key).await?;
        let pairs = metadata.file_metadata().key_value_metadata();
        let pairs = pairs.into_iter().flatten();
        Ok(pairs.map(|p| (p.key.clone(), p.value.clone())).collect())
    }

    /// An object's footer as Parquet has it: schema, rows, key-value pairs.
    pub async fn parquet_metadata(&self, key: &str) -> Result<ParquetMetaData, LakeError> {
        let damaged = |detail: String| LakeError::Object {
            key: key.to_owned(),
            detail,
        };
        let path = self.path(key)?;
        let mut wanted = FOOTER_GUESS_BYTES;
        loop {
            let options = GetOptions::new().with_range(Some(GetRange::Suffix(wanted)));
            let answer = self.object_store().get_opts(&path, options).await;
            let answer = answer.map_err(|error| self.error("read", key, &error))?;
            let size = answer.meta.size;
            let tail = answer.bytes().await;
            let tail = tail.map_err(|error| self.error("read", key, &error))?;
            let mut reader = ParquetMetaDataReader::new();
            match reader.try_parse_sized(&tail, size) {
                Ok(()) => {}
                Err(ParquetError::NeedMoreData(more))
                    if more as u64 > wanted && more as u64 <= FOOTER_MAX_BYTES =>
                {
                    wanted = more as u64;
                    continue;
                }
                Err(error) => return Err(damaged(error.to_string())),
            }
            return reader.finish().map_err(|error| damaged(error.to_string()));
        }
    }
}
