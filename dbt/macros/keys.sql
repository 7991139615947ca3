{# A day as the number YYYYMMDD: the key of dim_date. #}
{% macro date_key(day) -%}
extract(year from {{ day }}) * 10000 + extract(month from {{ day }}) * 100 + extract(day from {{ day }})
{%- endmacro %}

{# A time as the number HHMMSS: the key of dim_time. #}
{% macro time_key(time) -%}
extract(hour from {{ time }}) * 10000 + extract(minute from {{ time }}) * 100 + extract(second from {{ time }})
{%- endmacro %}

{# The merchant without the data set's prefix. #}
{% macro merchant_name(merchant) -%}
case when substr({{ merchant }}, 1, 6) = 'fraud_' then substr({{ merchant }}, 7) else {{ merchant }} end
{%- endmacro %}
