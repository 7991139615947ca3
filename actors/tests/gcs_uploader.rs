//! What the uploader says about a chain while it is putting a file into it.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use ftap_actors::gcs_uploader::{GcsUploader, Unanswered};
use ftap_actors::messages::{
    ChainEnds, ClosePartitions, FindChainEnds, ToSubscriber, ToUploader, Upload,
};
use ftap_lake::{
    CloseReason, ClosedFile, Compression, FileBuilder, FileSettings, LakeLocation, LakeStore,
    TransactionFooter,
};
use ftap_supervision::{
    Controls, Group, GroupEnd, Handed, Health, MemoryBudget, Outbox, Stages, SupervisionContext,
    SupervisionSettings, supervise,
};
use ftap_testing::gcs::{Fault, Operation, Options, Rule, Server, Times};
use tokio::sync::watch;

const TOPIC: &str = "transactions";
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads partition 0, loses it while its file is being put, gets it back and asks for its end.
struct Reader {
    uploader: Outbox<ToUploader>,
    file: Option<ClosedFile<TransactionFooter>>,
    answer: Arc<Mutex<Option<ChainEnds>>>,
}

impl Actor for Reader {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let upload = Upload {
            assignment: 1,
            file: self.file.take().unwrap(),
            reason: CloseReason::Rows,
            rejections: Vec::new(),
            dead_letters: None,
            closed_at: Instant::now(),
            permit: MemoryBudget::new(1).take(1),
        };
        self.uploader.hand(ToUploader::Upload(Box::new(upload)));
        self.uploader.hand(ToUploader::Close(ClosePartitions {
            partitions: vec![0],
            last_assignment: 1,
        }));
        self.uploader.hand(ToUploader::FindChainEnds(FindChainEnds {
            topic: TOPIC.into(),
            partitions: vec![0],
            request: 7,
        }));
    }
}

impl Handler<Handed<ToSubscriber>> for Reader {
    type Result = ();

    fn handle(&mut self, handed: Handed<ToSubscriber>, _: &mut Context<Self>) {
        if let ToSubscriber::ChainEnds(ends) = handed.message {
            *self.answer.lock().unwrap() = Some(ends);
        }
    }
}

struct Both {
    lake: LakeStore,
    file: ClosedFile<TransactionFooter>,
    answer: Arc<Mutex<Option<ChainEnds>>>,
    health: Arc<Health>,
}

impl Group for Both {
    fn name(&self) -> &'static str {
        "both"
    }

    fn finishes_before_stop(&self) -> bool {
        false
    }

    fn start(&mut self, stages: &mut Stages) {
        let reader = stages.mailbox::<Reader>("reader", 4);
        let uploader = stages.mailbox::<GcsUploader>("uploader", 4);
        let (to_uploader, to_reader) = (uploader.outbox(&reader), reader.outbox(&uploader));
        let (file, answer) = (Some(self.file.clone()), self.answer.clone());
        stages.spawn(reader, move |_| Reader {
            uploader: to_uploader,
            file,
            answer,
        });
        let (lake, health) = (self.lake.clone(), self.health.clone());
        stages.spawn(uploader, move |stage| {
            GcsUploader::new(stage, lake, to_reader, health, Unanswered::default())
        });
    }
}

/// A file of the rows at offsets 0 to 9.
fn file() -> ClosedFile<TransactionFooter> {
    let settings = FileSettings {
        max_message_bytes: 1000,
        compression: Compression::Zstd(1),
    };
    let mut file = FileBuilder::open(TOPIC.into(), 0, 0, 0, &settings, "w".into()).unwrap();
    for offset in 0..10 {
        file.append(Some(b"not a transaction"), offset, 0).unwrap();
    }
    file.close().unwrap()
}

#[test]
fn the_end_of_a_chain_is_answered_when_the_put_under_way_has_settled() {
    let answer = Arc::new(Mutex::new(None));
    let health = Arc::new(Health::default());
    let end = System::new().block_on(async {
        let server = Server::start(Options::default()).await.unwrap();
        let slow = Fault::Delay(Duration::from_secs(2));
        server.set_rules(vec![Rule::new(Operation::Put, Times::Always, slow)]);
        let lake = LakeStore::open(&LakeLocation::Gcs {
            bucket: server.bucket().to_owned(),
            credentials_file: None,
            endpoint: Some(server.endpoint().to_owned()),
        })
        .unwrap();
        let both = Both {
            lake,
            file: file(),
            answer: answer.clone(),
            health: health.clone(),
        };
        let (stop, shutdown) = watch::channel(false);
        let context = SupervisionContext {
            settings: SupervisionSettings::default(),
            health,
            controls: Controls::default(),
            shutdown,
        };
        let group = actix::spawn(supervise(both, context));
        let answered = async {
            while answer.lock().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, answered).await;
        in_time.expect("an answer");
        stop.send_replace(true);
        group.await.unwrap()
    });
    assert!(matches!(end, GroupEnd::Stopped), "{end:?}");
    let ends = answer.lock().unwrap().take().unwrap();
    assert_eq!(ends.request, 7);
    let footer = ends.footers[&0].as_ref();
    let last = footer.map(|footer| footer.last_offset);
    assert_eq!(last, Some(9), "the file that was being put");
}
