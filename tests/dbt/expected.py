"""The marts of a lake in plain Python, without SQL: what dbt's tables must hold.

Written independently of the models. Where they can't be both right, docs/DATA.md and dbt/README.md decide.
"""

import bisect
import datetime
import json
import math
from collections import defaultdict

DAY = 86_400


def plain(time):
    """A time without its time zone, which is UTC."""
    return time.astimezone(datetime.timezone.utc).replace(tzinfo=None) if time.tzinfo else time


def name_of(merchant):
    return merchant.removeprefix("fraud_")


def date_key(day):
    return day.year * 10_000 + day.month * 100 + day.day


# Users and merchants


def whole_epochs(*tables):
    return sorted({row["_epoch"] for rows in tables for row in rows if row["_op"] != "snapshot"})


def replay(rows, key, attributes, whole):
    """Per key a list of (time, state), in order; None for a state where the row ceased to exist."""
    stories = defaultdict(list)
    states = {}

    def put(row_key, state, time):
        if states.get(row_key) != state:
            latest = max((at for at, _ in stories[row_key]), default=time)
            stories[row_key].append((max(latest, time), state))
        states[row_key] = state

    def snapshot_begins(epoch):
        snapshot = [row for row in rows if row["_epoch"] == epoch and row["_op"] == "snapshot"]
        present = {row[key] for row in snapshot}
        for row_key in [known for known, state in states.items() if state is not None]:
            if row_key not in present and snapshot:
                put(row_key, None, plain(snapshot[0]["_commit_time"]))

    epoch = None
    for row in sorted(rows, key=lambda row: (row["_epoch"], row["_commit_lsn"], row["_seq"])):
        if row["_epoch"] != epoch:
            epoch = row["_epoch"]
            if epoch in whole:
                snapshot_begins(epoch)
        time = plain(row["_commit_time"])
        if row["_op"] == "truncate":
            for row_key in states:
                put(row_key, None, time)
            continue
        if row["_op"] == "delete":
            put(row[key], None, time)
            continue
        old_key = json.loads(row["_before"])[key] if row["_before"] else row[key]
        if row["_op"] == "update" and old_key != row[key]:
            put(old_key, None, time)
        unchanged = json.loads(row["_unchanged"]) if row["_unchanged"] else []
        before = states.get(row[key]) or {}
        state = {name: before.get(name) if name in unchanged else row[name] for name in attributes}
        put(row[key], state, time)
    return stories


USER = ["first_name", "last_name", "gender", "street", "city", "zip", "lat", "long", "job", "dob"]


def users_history(stories):
    versions = []
    for user, story in stories.items():
        own = []
        for time, state in story:
            if state is None:
                if own:
                    own[-1] |= {"deleted_at": time, "is_current": False}
                continue
            if own:
                own[-1] |= {"valid_to": time, "is_current": False}
            number = len(own) + 1
            own.append({
                "user_version_id": f"{user}-{number}",
                "user_id": user,
                "version": number,
                "valid_from": time if own else None,
                "valid_to": None,
                "deleted_at": None,
                "is_current": True,
                "latitude": state["lat"],
                "longitude": state["long"],
            } | {name: state[name] for name in USER if name not in ("lat", "long")})
        versions += own
    return versions


def merchants(stories, used):
    now = {}
    for merchant, story in stories.items():
        if story[-1][1] is not None:
            now[name_of(merchant)] = story[-1][1]
    rows = []
    for name in used | set(now):
        state = now.get(name, {})
        latitude, longitude = state.get("merch_lat"), state.get("merch_long")
        rows.append({
            "merchant_name": name,
            "latitude": latitude,
            "longitude": longitude,
            "zip": state.get("merch_zipcode") or None,
            "has_merchant_geo": latitude is not None and longitude is not None,
        })
    return rows


# Rates


class Rates:
    def __init__(self, rows):
        found = defaultdict(list)
        for row in rows:
            if row["base_currency"] == "USD":
                time = row["rate_time"] or datetime.datetime.fromisoformat(row["timestamp"])
                time = plain(time)
                found[row["currency"], time.date()].append(
                    (row["provider"] == "offline", time, row["rate"], row["provider"])
                )
        self.days = defaultdict(dict)
        for (currency, day), rates in found.items():
            self.days[currency][day] = min(rates)[1:]

    def on(self, currency, day):
        """(rule, rate, time, provider)"""
        if currency == "USD":
            return "base_currency", 1.0, None, None
        known = sorted(self.days[currency])
        if not known:
            return "none", None, None, None
        before = bisect.bisect_right(known, day)
        nearest = known[before - 1] if before else known[0]
        rule = "nearest" if not before else "same_day" if nearest == day else "last_before"
        time, rate, provider = self.days[currency][nearest]
        return rule, rate, time, provider


# Facts


def facts_of(transactions, rates, versions):
    by_user = defaultdict(list)
    for version in versions:
        by_user[version["user_id"]].append(version)
    facts = []
    for row in transactions:
        time = datetime.datetime.fromisoformat(row["trans_date_trans_time"])
        rule, rate, rate_time, provider = rates.on(row["currency"], time.date())
        # The last version that begins before or then: versions are in order.
        version = None
        for candidate in by_user[row["user_id"]]:
            if candidate["valid_from"] is None or candidate["valid_from"] <= time:
                version = candidate
        facts.append({
            "transaction_id": row["trans_num"],
            "user_id": row["user_id"],
            "user_version_id": version and version["user_version_id"],
            "merchant_name": name_of(row["merchant"]),
            "date_key": date_key(time),
            "time_key": time.hour * 10_000 + time.minute * 100 + time.second,
            "transaction_datetime_UTC": time,
            "unix_time_seconds": row["unix_time"],
            "currency": row["currency"],
            "original_amount": row["original_amt"],
            "fx_rate_to_currency": rate,
            "fx_rate_timestamp_UTC": rate_time,
            "amount_usd": None if rate is None else row["original_amt"] / rate,
            "is_fraud": row["is_fraud"],
            "category": row["category"],
            "fx_rate_rule": rule,
            "fx_rate_provider": provider,
            "user_version_rule": "valid_then" if version else "none" if versions else "nothing_captured",
        })
    return facts


# Marts


def mart(facts, without=(), **keys):
    groups = defaultdict(list)
    for fact in facts:
        groups[tuple(key(fact) for key in keys.values())].append(fact)
    rows = []
    for values, group in groups.items():
        known = [fact["amount_usd"] for fact in group if fact["amount_usd"] is not None]
        fraud = [fact for fact in group if fact["is_fraud"]]
        known_fraud = [fact["amount_usd"] for fact in fraud if fact["amount_usd"] is not None]
        only_unknown_fraud = len(fraud) == len(group) and not known_fraud
        figures = {
            "txn_count": len(group),
            "fraud_txn_count": len(fraud),
            "fraud_rate": len(fraud) / len(group),
            "amount_usd_total": math.fsum(known) if known else None,
            "amount_usd_avg": math.fsum(known) / len(known) if known else None,
            "amount_usd_fraud_total": None if only_unknown_fraud else math.fsum(known_fraud),
            "distinct_users": len({fact["user_id"] for fact in group}),
            "distinct_merchants": len({fact["merchant_name"] for fact in group}),
            "txn_without_rate_count": len(group) - len(known),
        }
        for name in without:
            del figures[name]
        rows.append(dict(zip(keys, values)) | figures)
    return rows


def age_group(born, then):
    if born is None or born > then:
        return "Unknown"
    age = then.year - born.year - ((then.month, then.day) < (born.month, born.day))
    for limit, name in [(25, "under 25"), (35, "25-34"), (45, "35-44"), (55, "45-54")]:
        if age < limit:
            return name
    return "55+"


def marts_of(facts, versions):
    by_id = {version["user_version_id"]: version for version in versions}

    def day(fact):
        return fact["transaction_datetime_UTC"].date()

    def gender(fact):
        user = by_id.get(fact["user_version_id"], {})
        return user.get("gender") if user.get("gender") in ("F", "M") else "Unknown"

    def age(fact):
        return age_group(by_id.get(fact["user_version_id"], {}).get("dob"), day(fact))

    def field(name):
        return lambda fact: fact[name]

    of_day = {"date_key": field("date_key"), "date_day": day}
    no_users, no_merchants = ["distinct_users"], ["distinct_merchants"]
    merchant = field("merchant_name")
    return {
        "mart_daily": mart(facts, **of_day),
        "mart_hourly": mart(facts, **of_day, hour=lambda fact: fact["transaction_datetime_UTC"].hour),
        "mart_currency_day": mart(facts, currency=field("currency"), **of_day),
        "mart_category_day": mart(facts, category=field("category"), **of_day),
        "mart_segment_day": mart(facts, gender=gender, age_group=age, **of_day),
        "mart_user_day": mart(facts, no_users, user_id=field("user_id"), **of_day),
        "mart_merchant_day": mart(facts, no_merchants, merchant_name=merchant, **of_day),
        "mart_merchant": mart(facts, no_merchants, merchant_name=merchant),
    }


# Features


class Past:
    """The earlier transactions of a user, a merchant or a pair, by time."""

    def __init__(self, facts, key):
        self.key = key
        self.known = defaultdict(list)
        for fact in facts:
            time = fact["transaction_datetime_UTC"]
            self.known[key(fact)].append((time, fact["amount_usd"]))
        for events in self.known.values():
            events.sort(key=lambda event: event[0])
        self.times = {key: [time for time, _ in events] for key, events in self.known.items()}

    def since_last(self, fact):
        time, times = fact["transaction_datetime_UTC"], self.times[self.key(fact)]
        at = bisect.bisect_left(times, time)
        return int((time - times[at - 1]).total_seconds()) if at else None

    def window(self, fact, days):
        """(count, sum, average, maximum) of what came strictly before, within so many days."""
        time, key = fact["transaction_datetime_UTC"], self.key(fact)
        first = bisect.bisect_left(self.times[key], time - datetime.timedelta(days=days))
        last = bisect.bisect_left(self.times[key], time)
        amounts = [amount for _, amount in self.known[key][first:last] if amount is not None]
        if not amounts:
            return last - first, None, None, None
        total = math.fsum(amounts)
        return last - first, total, total / len(amounts), max(amounts)


def features_of(facts, merchant_rows):
    has_geo = {row["merchant_name"]: row["has_merchant_geo"] for row in merchant_rows}
    user = Past(facts, lambda fact: fact["user_id"])
    merchant = Past(facts, lambda fact: fact["merchant_name"])
    pair = Past(facts, lambda fact: (fact["user_id"], fact["merchant_name"]))
    rows = []
    for fact in facts:
        time, amount = fact["transaction_datetime_UTC"], fact["original_amount"]
        row = {name: fact[name] for name in (
            "transaction_id", "user_id", "merchant_name", "transaction_datetime_UTC", "original_amount",
            "amount_usd", "is_fraud", "category",
        )} | {
            "log1p_original_amount": math.log1p(amount) if amount > -1 else None,
            "year": time.year,
            "quarter": (time.month + 2) // 3,
            "month": time.month,
            "iso_week": time.isocalendar().week,
            "weekday": time.isoweekday(),
            "hour": time.hour,
            "is_business_hour": 9 <= time.hour <= 16,
            "is_weekend": time.isoweekday() >= 6,
            "has_merchant_geo": has_geo[fact["merchant_name"]],
            "seconds_since_user_txn": user.since_last(fact),
            "seconds_since_merchant_txn": merchant.since_last(fact),
            "seconds_since_pair_txn": pair.since_last(fact),
        }
        for name, days in [("24h", 1), ("30d", 30)]:
            count, total, average, most = user.window(fact, days)
            row |= {
                f"user_txn_count_{name}": count,
                f"user_amount_usd_sum_{name}": total,
                f"user_amount_usd_avg_{name}": average,
                f"user_amount_usd_max_{name}": most,
            }
        for name, past in [("merchant", merchant), ("pair", pair)]:
            count, _, average, _ = past.window(fact, 30)
            row |= {f"{name}_txn_count_30d": count, f"{name}_amount_usd_avg_30d": average}
        rows.append(row)
    return rows


def parts_of_days(facts):
    """dim_date and dim_time."""
    dates = []
    for year in {fact["transaction_datetime_UTC"].year for fact in facts}:
        day = datetime.date(year, 1, 1)
        while day.year == year:
            dates.append({
                "date_key": date_key(day),
                "date_day": day,
                "year": year,
                "quarter": (day.month + 2) // 3,
                "month": day.month,
                "iso_week": day.isocalendar().week,
                "day_of_month": day.day,
                "weekday": day.isoweekday(),
                "weekday_name": day.strftime("%A"),
                "is_weekend": day.isoweekday() >= 6,
            })
            day += datetime.timedelta(days=1)
    times = []
    for second in range(DAY):
        hour, minute, second = second // 3600, second // 60 % 60, second % 60
        times.append({
            "time_key": hour * 10_000 + minute * 100 + second,
            "hour": hour,
            "minute": minute,
            "second": second,
            "part_of_day": ["Night", "Morning", "Afternoon", "Evening"][hour // 6],
            "is_business_hour": 9 <= hour <= 16,
        })
    return {"dim_date": dates, "dim_time": times}


def tables(transactions, fx_rates, users_changes, merchants_changes):
    """The rows of each model but staging, from the rows of the lake."""
    whole = whole_epochs(users_changes, merchants_changes)
    user_stories = replay(users_changes, "user_id", USER, whole)
    versions = users_history(user_stories)
    positions = ["merch_lat", "merch_long", "merch_zipcode"]
    merchant_stories = replay(merchants_changes, "merchant", positions, whole)
    merchant_rows = merchants(merchant_stories, {name_of(row["merchant"]) for row in transactions})
    rates = Rates(fx_rates)
    facts = facts_of(transactions, rates, versions)
    used = {(fact["currency"], fact["transaction_datetime_UTC"].date()) for fact in facts}
    rate_rows = []
    for currency, day in used:
        rule, rate, time, provider = rates.on(currency, day)
        rate_rows.append({
            "currency": currency,
            "date_key": date_key(day),
            "date_day": day,
            "fx_rate_to_currency": rate,
            "fx_rate_timestamp_UTC": time,
            "fx_rate_provider": provider,
            "fx_rate_rule": rule,
        })
    history_only = ("version", "valid_from", "valid_to", "deleted_at", "is_current")
    return {
        "dim_fx_rates": rate_rows,
        "dim_merchants": merchant_rows,
        "dim_users_history": versions,
        "dim_users_current": [
            {name: value for name, value in row.items() if name not in history_only}
            for row in versions if row["is_current"]
        ],
        "fct_transactions": facts,
        "fraud_features": features_of(facts, merchant_rows),
    } | parts_of_days(facts) | marts_of(facts, versions)
