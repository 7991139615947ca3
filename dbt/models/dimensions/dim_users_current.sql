-- Users as the table has them now.
select
    user_id, user_version_id, first_name, last_name, gender, street, city, zip, latitude, longitude, job, dob
from {{ ref('dim_users_history') }}
where is_current
