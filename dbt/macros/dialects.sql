{# What differs between DuckDB, BigQuery and DataFusion (the last branch). Models have no other dialect. #}

{# A time with time zone as a time in UTC. DuckDB: the same in every session's TimeZone. #}
{% macro in_utc(time) %}
{%- if target.type == 'duckdb' -%} make_timestamp(epoch_us({{ time }}))
{%- elif target.type == 'bigquery' -%} {{ time }}
{%- else -%} arrow_cast({{ time }}, 'Timestamp(Microsecond, None)')
{%- endif -%}
{% endmacro %}

{# The text of a time in UTC, with `T` and `Z` or without, as a time. #}
{% macro text_as_time(text) %}
{%- if target.type == 'datafusion' -%} arrow_cast({{ text }}, 'Timestamp(Microsecond, None)')
{%- else -%} cast({{ text }} as timestamp)
{%- endif -%}
{% endmacro %}

{# Whole seconds since 1970. #}
{% macro unix_seconds(time) %}
{%- if target.type == 'duckdb' -%} cast(epoch({{ time }}) as bigint)
{%- elif target.type == 'bigquery' -%} unix_seconds({{ time }})
{%- else -%} cast(date_part('epoch', {{ time }}) as bigint)
{%- endif -%}
{% endmacro %}

{# Monday is 1, Sunday 7. #}
{% macro iso_weekday(day) %}
{%- if target.type == 'duckdb' -%} extract(isodow from {{ day }})
{%- elif target.type == 'bigquery' -%} mod(extract(dayofweek from {{ day }}) + 5, 7) + 1
{%- else -%} (extract(dow from {{ day }}) + 6) % 7 + 1
{%- endif -%}
{% endmacro %}

{% macro iso_week(day) %}
{%- if target.type == 'bigquery' -%} extract(isoweek from {{ day }})
{%- else -%} extract(week from {{ day }})
{%- endif -%}
{% endmacro %}

{# The day that is `days` after January 1. #}
{% macro day_of_year(year, days) %}
{%- if target.type == 'duckdb' -%} make_date({{ year }}, 1, 1) + cast({{ days }} as integer)
{%- elif target.type == 'bigquery' -%} date_add(date({{ year }}, 1, 1), interval {{ days }} day)
{%- else -%} cast(cast(make_date({{ year }}, 1, 1) as integer) + cast({{ days }} as integer) as date)
{%- endif -%}
{% endmacro %}

{# A field of a JSON object as text. DataFusion has none: what embeds it registers one. #}
{% macro json_text(object, field) %}
{%- if target.type == 'duckdb' -%} json_extract_string({{ object }}, '$.{{ field }}')
{%- elif target.type == 'bigquery' -%} json_value({{ object }}, '$.{{ field }}')
{%- else -%} json_text({{ object }}, '{{ field }}')
{%- endif -%}
{% endmacro %}

{# Different texts in each of many groups. DataFusion: by their hashes, since it has a set per group for texts. #}
{% macro count_distinct(text) %}
{%- if target.type == 'datafusion' -%} count(distinct text_hash({{ text }}))
{%- else -%} count(distinct {{ text }})
{%- endif -%}
{% endmacro %}
