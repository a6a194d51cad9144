"""The S3 face over a remote place: what `test_s3.py` asks of the local disk, asked again."""

import pytest

from conftest import server
from test_objects_admin import Remote
from test_s3 import (  # noqa: F401
    bucket, env, s3,
    test_a_form_posts_an_object,
    test_broken_signatures_and_bodies_get_the_codes_of_s3,
    test_bytes_of_every_size_come_back_and_ranges_of_them,
    test_chunked_bodies_that_are_cut_or_too_long_or_lie_are_refused,
    test_conditions_hold_on_reads_and_writes,
    test_copies_share_bytes_and_outlive_their_source,
    test_customers_keys_are_needed_again,
    test_every_checksum_is_verified_and_told,
    test_names_of_every_alphabet_come_back_and_are_listed_in_the_order_of_their_bytes,
    test_object_lock_keeps_versions,
    test_parts_have_their_bounds,
    test_prefixes_group_and_pages_hold_in_both_calls,
    test_uploads_in_parts_and_copies_into_parts,
    test_versions_markers_and_multi_delete,
    test_what_is_said_of_an_object_is_kept,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server whose objects lie at another Lepton."""
    with server() as second:
        remote = Remote(second)
        credentials = remote.credentials(tmp_path_factory.mktemp("remote"))
        with server(config=remote.place(credentials)) as lepton:
            yield lepton
