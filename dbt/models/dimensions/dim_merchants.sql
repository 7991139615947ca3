-- Every merchant of the transactions or of the table merchants, with its position if that is known.
with numbered as (
    select
        *,
        row_number() over (
            partition by merchant_name order by _epoch desc, _commit_lsn desc, _seq desc, is_end
        ) as number
    from {{ ref('stg_merchants_changes') }}
),
captured as (
    select * from numbered where number = 1 and not is_end
),
names as (
    select merchant_name from {{ ref('stg_transactions') }}
    union distinct
    select merchant_name from captured
)
select
    names.merchant_name,
    captured.latitude,
    captured.longitude,
    captured.zip,
    captured.latitude is not null and captured.longitude is not null as has_merchant_geo
from names
left join captured on names.merchant_name = captured.merchant_name
