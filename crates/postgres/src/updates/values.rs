//! The values that users change to: 30 cities, 25 jobs, five-digit post codes.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// A column that a run changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    City,
    Job,
    Zip,
}

impl Field {
    pub(super) const ALL: [Self; 3] = [Self::City, Self::Job, Self::Zip];

    /// Its name in the table.
    pub(super) fn column(self) -> &'static str {
        match self {
            Self::City => "city",
            Self::Job => "job",
            Self::Zip => "zip",
        }
    }

    /// A fresh text for it.
    pub(super) fn text(self, random: &mut ChaCha8Rng) -> &'static str {
        let texts: &[&str] = match self {
            Self::City => &CITIES,
            Self::Job | Self::Zip => &JOBS,
        };
        texts[random.random_range(0..texts.len())]
    }
}

/// A post code.
pub(super) fn zip(random: &mut ChaCha8Rng) -> i32 {
    random.random_range(10_000..=99_999)
}

const CITIES: [&str; 30] = [
    "Albuquerque",
    "Anchorage",
    "Atlanta",
    "Baltimore",
    "Boise",
    "Boston",
    "Buffalo",
    "Charleston",
    "Chicago",
    "Cleveland",
    "Columbus",
    "Dallas",
    "Denver",
    "Detroit",
    "Fargo",
    "Honolulu",
    "Houston",
    "Memphis",
    "Miami",
    "Milwaukee",
    "Minneapolis",
    "Nashville",
    "New Orleans",
    "Omaha",
    "Philadelphia",
    "Phoenix",
    "Portland",
    "Sacramento",
    "Seattle",
    "Tulsa",
];

const JOBS: [&str; 25] = [
    "Accountant",
    "Architect",
    "Baker",
    "Bus driver",
    "Carpenter",
    "Chemist",
    "Civil engineer",
    "Data analyst",
    "Dentist",
    "Electrician",
    "Farmer",
    "Firefighter",
    "Graphic designer",
    "Journalist",
    "Lawyer",
    "Librarian",
    "Mechanic",
    "Nurse",
    "Pharmacist",
    "Photographer",
    "Pilot",
    "Plumber",
    "Social worker",
    "Teacher",
    "Veterinarian",
];
