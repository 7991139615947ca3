{#
  DuckDB only: a view per source over the lake's files, in the schema `lake`. Files are read by name, and an
  empty relation with the columns of models/sources.yml comes first: columns that no file has are NULL, and a
  source without files is empty. A lake without transactions is an error: its folder is most likely another one.
#}
{% macro open_lake() %}
  {% if execute and target.type == 'duckdb' %}
    {% set lake = env_var('FTAP_LAKE', 'data/lake') %}
    {% set statements = ['create schema if not exists lake;'] %}
    {% for source in graph.sources.values() if source.source_name == 'lake' %}
      {% set files = (lake ~ '/' ~ source.meta.files) | replace("'", "''") %}
      {% set found = run_query("select count(*) from glob('" ~ files ~ "')").columns[0].values()[0] %}
      {% if found == 0 and source.meta.required %}
        {{ exceptions.raise_compiler_error("no files match " ~ files ~ ": set FTAP_LAKE to the lake's folder, or fill it with `ftap run`") }}
      {% endif %}
      {% set columns = [] %}
      {% for column in source.columns.values() %}
        {% do columns.append('cast(null as ' ~ column.data_type ~ ') as "' ~ column.name ~ '"') %}
      {% endfor %}
      {% set shape = 'select ' ~ columns | join(', ') ~ ' where false' %}
      {% set rows = " union all by name select * from read_parquet('" ~ files ~ "', union_by_name = true)" if found else '' %}
      {% do statements.append('create or replace view lake.' ~ source.name ~ ' as ' ~ shape ~ rows ~ ';') %}
      {% if not found %}
        {% do log("no files match " ~ files ~ ": " ~ source.description, info=true) %}
      {% endif %}
    {% endfor %}
    {{ return(statements | join('\n')) }}
  {% endif %}
{% endmacro %}
