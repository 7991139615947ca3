{# The whole numbers from 0 that are below `limit`, at most 1000 of them, as a relation with the column `number`. #}
{% macro numbers_below(limit) %}
{%- set digits -%}
(select 0 as digit {%- for digit in range(1, 10) %} union all select {{ digit }} {%- endfor %})
{%- endset -%}
(
    select hundreds.digit * 100 + tens.digit * 10 + ones.digit as number
    from {{ digits }} as ones
    cross join {{ digits }} as tens
    cross join {{ digits if limit > 100 else '(select 0 as digit)' }} as hundreds
    where hundreds.digit * 100 + tens.digit * 10 + ones.digit < {{ limit }}
)
{%- endmacro %}
