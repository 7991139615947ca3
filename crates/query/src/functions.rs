//! What functions of other engines are called here.

/// What to write in place of a function that this engine does not have.
pub(crate) fn equivalent(function: &str) -> Option<&'static str> {
    let equivalent = match function.to_lowercase().as_str() {
        "year" => "date_part('year', time)",
        "quarter" => "date_part('quarter', time)",
        "month" => "date_part('month', time)",
        "week" | "weekofyear" => "date_part('week', time)",
        "day" | "dayofmonth" => "date_part('day', time)",
        "dayofweek" | "weekday" => "date_part('dow', time)",
        "hour" => "date_part('hour', time)",
        "minute" => "date_part('minute', time)",
        "epoch" | "unix_timestamp" => "date_part('epoch', time)",
        "strftime" | "date_format" | "format_timestamp" | "format_date" => {
            "to_char(time, '%Y-%m-%d')"
        }
        "strptime" | "parse_timestamp" => "to_timestamp(text, '%Y-%m-%d')",
        "date_diff" | "datediff" | "timestamp_diff" => {
            "(date_part('epoch', later) - date_part('epoch', earlier)) / 86400 for days"
        }
        "date_add" | "dateadd" | "timestamp_add" => "time + INTERVAL '1 day'",
        "date_sub" | "timestamp_sub" => "time - INTERVAL '1 day'",
        "timestamp_trunc" => "date_trunc('day', time)",
        "json_extract" | "json_extract_string" | "json_value" | "get_json_object" => {
            "json_text(object, '$.field') or object ->> '$.field'"
        }
        "count_if" | "countif" => "count(*) FILTER (WHERE condition)",
        "if" | "iff" => "CASE WHEN condition THEN one ELSE other END",
        "safe_divide" => "one / nullif(other, 0)",
        "group_concat" | "listagg" => "string_agg(text, ', ')",
        "quantile" | "quantile_cont" | "percentile" => "approx_percentile_cont(number, 0.5)",
        "any_value" | "arbitrary" => "min(value)",
        "isnull" => "value IS NULL",
        "len" => "length(text)",
        _ => return None,
    };
    Some(equivalent)
}
