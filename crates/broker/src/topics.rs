//! Topics and their partitions: one directory per topic with one per partition. Creation and deletion
//! take effect by a single rename, so a kill leaves a whole topic or none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use kafka_protocol::ResponseError;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::Notify;

use crate::log::{LogOptions, PartitionLog, storage_error, sync_dir};

/// Marks directories of unfinished work; not a legal character in a topic's name.
const UNFINISHED: char = '~';
const MAX_NAME_BYTES: usize = 249;
const MAX_PARTITIONS: i32 = 10_000;
/// In a topic's directory: its own settings, a line `name=value` each. Absent if it has none.
const SETTINGS_FILE: &str = "settings";
pub(crate) const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// A topic's own settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TopicSettings {
    /// The largest batch that it takes, in place of the broker's limit.
    pub max_message_bytes: Option<usize>,
}

impl TopicSettings {
    fn read(topic: &Path) -> io::Result<Self> {
        let path = topic.join(SETTINGS_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut settings = Self::default();
        for line in text.lines() {
            let value = line.split_once('=').and_then(|(name, value)| {
                let is_known = name == MAX_MESSAGE_BYTES;
                is_known.then(|| value.parse().ok()).flatten()
            });
            settings.max_message_bytes = Some(value.ok_or_else(|| {
                let problem = format!("{}: {line:?} is not a setting", path.display());
                io::Error::new(io::ErrorKind::InvalidData, problem)
            })?);
        }
        Ok(settings)
    }

    fn write(self, topic: &Path) -> io::Result<()> {
        match self.max_message_bytes {
            None => Ok(()),
            Some(bytes) => fs::write(
                topic.join(SETTINGS_FILE),
                format!("{MAX_MESSAGE_BYTES}={bytes}\n"),
            ),
        }
    }
}

/// A partition: its log and those who wait for it to grow.
pub(crate) struct Partition {
    log: Mutex<PartitionLog>,
    watchers: Mutex<Vec<Arc<Notify>>>,
    settings: TopicSettings,
}

impl Partition {
    fn open(dir: &Path, options: LogOptions, settings: TopicSettings) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            log: Mutex::new(PartitionLog::open(dir, options)?),
            watchers: Mutex::default(),
            settings,
        }))
    }

    /// The settings of its topic.
    pub(crate) fn settings(&self) -> TopicSettings {
        self.settings
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, PartitionLog> {
        self.log.lock()
    }

    /// Wakes the readers waiting here: records arrived, or a transaction ended.
    pub(crate) fn wake(&self) {
        for watcher in self.watchers.lock().iter() {
            watcher.notify_one();
        }
    }
}

/// Registers one reader with the partitions it waits for, until dropped.
pub(crate) struct Watch {
    notify: Arc<Notify>,
    partitions: Vec<Arc<Partition>>,
}

impl Watch {
    pub(crate) fn new(partitions: Vec<Arc<Partition>>) -> Self {
        let notify = Arc::new(Notify::new());
        for partition in &partitions {
            partition.watchers.lock().push(Arc::clone(&notify));
        }
        Self { notify, partitions }
    }

    /// Waits for the next wake since the last; one that came in between is not lost.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition
                .watchers
                .lock()
                .retain(|w| !Arc::ptr_eq(w, &self.notify));
        }
    }
}

type Partitions = Vec<Arc<Partition>>;

pub(crate) struct Topics {
    dir: PathBuf,
    options: LogOptions,
    topics: RwLock<BTreeMap<String, Arc<Partitions>>>,
    /// Held while topics are made or removed, so that disk and memory change together.
    changing: Mutex<()>,
}

/// Checks that a topic may have this name.
pub(crate) fn check_name(name: &str) -> Result<(), ResponseError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name != "." && name != "..";
    if fits && name.chars().all(legal) {
        Ok(())
    } else {
        Err(ResponseError::InvalidTopicException)
    }
}

impl Topics {
    pub(crate) fn open(dir: &Path, options: LogOptions) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut topics = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains(UNFINISHED) {
                fs::remove_dir_all(entry.path())?;
            } else if check_name(&name).is_ok() {
                topics.insert(name, Arc::new(open_partitions(&entry.path(), &options)?));
            }
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            options,
            topics: RwLock::new(topics),
            changing: Mutex::default(),
        })
    }

    pub(crate) fn get(&self, topic: &str) -> Option<Arc<Partitions>> {
        self.topics.read().get(topic).cloned()
    }

    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        let index = usize::try_from(index).ok()?;
        self.topics.read().get(topic)?.get(index).cloned()
    }

    pub(crate) fn all(&self) -> Vec<(String, Arc<Partitions>)> {
        let topics = self.topics.read();
        topics
            .iter()
            .map(|(name, partitions)| (name.clone(), Arc::clone(partitions)))
            .collect()
    }

    /// Another topic whose name differs from this one in `.` and `_` only. Apache Kafka's metrics
    /// can't tell the two apart, so it refuses the second.
    pub(crate) fn collision(&self, name: &str) -> Option<String> {
        let unified = |name: &str| name.replace('.', "_");
        let wanted = unified(name);
        let topics = self.topics.read();
        let mut others = topics.keys().filter(|other| *other != name);
        others.find(|other| unified(other) == wanted).cloned()
    }

    /// Checks whether a topic could be made.
    pub(crate) fn check_new(&self, name: &str, partitions: i32) -> Result<(), ResponseError> {
        check_name(name)?;
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(ResponseError::InvalidPartitions);
        }
        if self.get(name).is_some() {
            return Err(ResponseError::TopicAlreadyExists);
        }
        if self.collision(name).is_some() {
            return Err(ResponseError::InvalidTopicException);
        }
        Ok(())
    }

    pub(crate) fn create(
        &self,
        name: &str,
        partitions: i32,
        settings: TopicSettings,
    ) -> Result<(), ResponseError> {
        let _changing = self.changing.lock();
        self.check_new(name, partitions)?;
        let made = self.create_on_disk(name, partitions, settings);
        let made = made.map_err(|error| storage_error(&self.dir.join(name), &error))?;
        self.topics.write().insert(name.to_string(), Arc::new(made));
        tracing::info!(
            event = "topic_created",
            topic = name,
            partition_count = partitions
        );
        Ok(())
    }

    fn create_on_disk(
        &self,
        name: &str,
        partitions: i32,
        settings: TopicSettings,
    ) -> io::Result<Partitions> {
        let unfinished = self.dir.join(format!("{UNFINISHED}new{UNFINISHED}{name}"));
        // An attempt that failed may have left other settings.
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        for index in 0..partitions {
            fs::create_dir_all(unfinished.join(index.to_string()))?;
        }
        settings.write(&unfinished)?;
        let dir = self.dir.join(name);
        fs::rename(&unfinished, &dir)?;
        if self.options.fsync {
            sync_dir(&self.dir)?;
        }
        open_partitions(&dir, &self.options)
    }

    /// Raises the number of partitions to `count`.
    pub(crate) fn grow(
        &self,
        name: &str,
        count: i32,
        only_check: bool,
    ) -> Result<(), ResponseError> {
        let _changing = self.changing.lock();
        let old = self
            .get(name)
            .ok_or(ResponseError::UnknownTopicOrPartition)?;
        let wanted = usize::try_from(count).unwrap_or(0);
        if wanted <= old.len() || count > MAX_PARTITIONS {
            return Err(ResponseError::InvalidPartitions);
        }
        if only_check {
            return Ok(());
        }
        let mut partitions = old.as_ref().clone();
        for index in old.len()..wanted {
            let dir = self.dir.join(name).join(index.to_string());
            let settings = old.first().map(|p| p.settings()).unwrap_or_default();
            let opened = Partition::open(&dir, self.options.clone(), settings);
            partitions.push(opened.map_err(|error| storage_error(&dir, &error))?);
        }
        self.topics
            .write()
            .insert(name.to_string(), Arc::new(partitions));
        Ok(())
    }

    pub(crate) fn delete(&self, name: &str) -> Result<(), ResponseError> {
        let _changing = self.changing.lock();
        let partitions = self
            .get(name)
            .ok_or(ResponseError::UnknownTopicOrPartition)?;
        let doomed = self.dir.join(format!("{UNFINISHED}gone{UNFINISHED}{name}"));
        let failed = |error: io::Error| storage_error(&self.dir.join(name), &error);
        if doomed.exists() {
            fs::remove_dir_all(&doomed).map_err(failed)?;
        }
        fs::rename(self.dir.join(name), &doomed).map_err(failed)?;
        self.topics.write().remove(name);
        for partition in partitions.iter() {
            partition.log().mark_deleted();
            partition.wake();
        }
        tracing::info!(event = "topic_deleted", topic = name);
        // The topic is gone already; what is left of its files goes at the next start at the latest.
        if let Err(error) = fs::remove_dir_all(&doomed) {
            tracing::warn!(event = "storage_error", path = %doomed.display(), %error);
        }
        Ok(())
    }

    /// Removes segments past their retention in every partition.
    pub(crate) fn enforce_retention(&self, now_ms: i64) {
        for (topic, partitions) in self.all() {
            for (index, partition) in partitions.iter().enumerate() {
                let mut log = partition.log();
                match log.enforce_retention(now_ms) {
                    Ok(0) => {}
                    Ok(bytes) => tracing::info!(
                        event = "retention_deleted",
                        topic = %topic,
                        partition = index,
                        bytes,
                        log_start = log.start(),
                    ),
                    Err(error) => {
                        storage_error(&self.dir.join(&topic), &error);
                    }
                }
            }
        }
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        for (_, partitions) in self.all() {
            for partition in partitions.iter() {
                partition.log().flush()?;
            }
        }
        Ok(())
    }
}

fn open_partitions(dir: &Path, options: &LogOptions) -> io::Result<Partitions> {
    let settings = TopicSettings::read(dir)?;
    let mut partitions = Vec::new();
    loop {
        let path = dir.join(partitions.len().to_string());
        if !path.is_dir() {
            return Ok(partitions);
        }
        partitions.push(Partition::open(&path, options.clone(), settings)?);
    }
}
