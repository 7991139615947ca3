//! Rights in Kafka: what README lists for a command is enough for it, and an error names the one missing.
//!
//! Part of the test of TLS, because both need a broker of their own with logins.

use crate::common::kafka::{self, Operation, Resource};
use crate::common::{Lab, ROWS};
use crate::tls::Kafka;

/// The user of `scripts/kafka` that has no rights of its own.
const USER: &str = "guest";

struct Rights<'a> {
    broker: &'a str,
    listed: Vec<(Resource, Operation)>,
}

impl Rights<'_> {
    fn set(&self, (resource, operation): &(Resource, Operation), allowed: bool) {
        kafka::set_right(self.broker, USER, resource, *operation, allowed);
    }

    /// The command fails without any of these, and its error names what is missing.
    fn each_is_needed(&self, lab: &Lab, args: &[&str], needed: &[(Resource, Operation)]) {
        for right in &self.listed {
            self.set(right, true);
        }
        for right in needed {
            self.set(right, false);
            let ftap = lab.start(args);
            let (code, said) = ftap.wait_for_failure();
            assert_eq!(code, 1, "{right:?}: {said}");
            let (Resource::Topic(name) | Resource::Group(name) | Resource::TransactionalId(name)) =
                &right.0;
            assert!(said.contains(name), "{right:?}: {said}");
            let operation = format!("{:?}", right.1);
            assert!(said.contains(&operation), "{right:?}: {said}");
            // Before a record needed the topic.
            let is_told = !ftap.events("dead_letter_topic_unfit").is_empty();
            assert_eq!(is_told, args[0] == "consume" && name.ends_with(".dlq"));
            self.set(right, true);
        }
    }
}

pub(crate) fn exactly_those_of_the_readme(kafka: &Kafka) {
    use Operation::{Create, DescribeConfigs, Read, Write};
    let lab = kafka.lab("guest");
    let name = lab.topic().to_owned();
    let topic = || Resource::Topic(name.clone());
    let letters = || Resource::Topic(format!("{name}.dlq"));
    let tail = || Resource::Group("ftap-tail".to_owned());
    let group = || Resource::Group(format!("group-{name}"));
    let transactions = || Resource::TransactionalId(format!("ftap-publisher-{name}"));

    // While there is no such topic, and while it has no records; then what is read of them.
    let to_begin = [(topic(), Create), (topic(), Write), (transactions(), Write)];
    let to_resume = [(topic(), Read), (tail(), Read)];
    let produce = Rights {
        broker: &kafka.plain,
        listed: [&to_begin[..], &to_resume, &[(topic(), DescribeConfigs)]].concat(),
    };
    produce.each_is_needed(&lab, &["produce"], &to_begin);
    lab.start(["produce", "--rows", "1000"]).wait_for_success();
    produce.each_is_needed(&lab, &["produce"], &to_resume);
    lab.start(["produce"]).wait_for_success();
    for right in &produce.listed {
        produce.set(right, false);
    }

    kafka::produce(&kafka.plain, &name, 0, &[Some(b"no transaction".to_vec())]);
    let needed = [
        (letters(), Create),
        (letters(), Write),
        (topic(), Read),
        (tail(), Read),
        (group(), Read),
    ];
    let consume = Rights {
        broker: &kafka.plain,
        listed: [&needed[..], &[(topic(), DescribeConfigs)]].concat(),
    };
    consume.each_is_needed(&lab, &["consume", "--until-drained"], &needed);
    let drained = lab.start(["consume", "--until-drained", "--json"]);
    drained.wait_for_success();
    assert!(drained.events("dead_letter_topic_unfit").is_empty());
    for right in &consume.listed {
        consume.set(right, false);
    }

    let verify = [
        (topic(), Read),
        (letters(), Read),
        (Resource::Group("ftap-verify".to_owned()), Read),
    ];
    let verify = Rights {
        broker: &kafka.plain,
        listed: verify.to_vec(),
    };
    verify.each_is_needed(&lab, &["verify"], &verify.listed);
    lab.assert_exact(ROWS);

    // A topic that is there and may be read only.
    for right in &consume.listed {
        consume.set(right, right.0 != letters());
    }
    let drained = lab.start(["consume", "--until-drained"]);
    drained.wait_for_success();
    let unfit = drained.wait_for_event("dead_letter_topic_unfit");
    assert_eq!(unfit["error"], "this account may not write it");

    // Into the lake they go without any right on that topic.
    let mut lab = lab;
    lab.set("DEAD_LETTERS", "lake");
    consume.set(&(letters(), Read), false);
    kafka::produce(&kafka.plain, &name, 0, &[Some(b"no transaction".to_vec())]);
    let drained = lab.start(["consume", "--until-drained"]);
    drained.wait_for_success();
    assert!(drained.events("dead_letter_topic_unfit").is_empty());
    verify.set(&verify.listed[2], true);
    let listed = crate::common::dlq::lines(&lab, &["list", "--json"]);
    assert_eq!(listed.len(), 1, "{listed:?}");
    // The first one is in the topic that this account can't see.
    assert_eq!(lab.verify().kinds(), ["no_dead_letter"]);
}
