{#
  The key figures of a group of transactions. Amounts are of transactions whose rate is known;
  txn_without_rate_count counts the others. A mart by user has no number of users, one by merchant none of
  merchants.
#}
{% macro key_figures(users=true, merchants=true) %}
    count(*) as txn_count,
    count(case when is_fraud = 1 then 1 end) as fraud_txn_count,
    avg(is_fraud) as fraud_rate,
    sum(amount_usd) as amount_usd_total,
    avg(amount_usd) as amount_usd_avg,
    sum(case when is_fraud = 1 then amount_usd else 0 end) as amount_usd_fraud_total,
    {% if users %}{{ count_distinct('user_id') }} as distinct_users,{% endif %}
    {% if merchants %}{{ count_distinct('merchant_name') }} as distinct_merchants,{% endif %}
    count(case when amount_usd is null then 1 end) as txn_without_rate_count
{% endmacro %}
