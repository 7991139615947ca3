-- Which merchants take most, and which see most fraud?
select
    merchant_name,
    {{ key_figures(merchants=false) }}
from {{ ref('fct_transactions') }}
group by 1
