select
    currency,
    rate,
    coalesce({{ in_utc('rate_time') }}, {{ text_as_time('timestamp') }}) as rate_datetime_UTC,
    provider
from {{ source('lake', 'fx_rates') }}
where base_currency = 'USD'
