"""Queries: rows of a real Bolt server reach the disk completely or not at all. Nothing is written back."""

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys

import pytest
from support.bolt import BreakableProxy
from support.process import free_port, git, run, wait_until
from support.slurm import Submitter, submitted

GRAPH = """
CREATE (d:Dataset {id: 'smf'}), (t:Dataset {id: 'tmi'}), (v:Environment {id: 'v'}),
  (r:ExperimentReference {id: 'r', serialized_data: '{"ref": 1}'}),
  (:Media {name: 'YEPD'})-[:MediaMemberOf]->(v), (:Temperature {value: 30.0})-[:TemperatureMemberOf]->(v)
WITH d, t, r, v
UNWIND $experiments AS x
CREATE (e:Experiment {id: x.id, serialized_data: x.data}), (g:Genotype {id: x.id}), (y:Phenotype {fitness: x.fitness}),
  (g)-[:GenotypeMemberOf]->(e), (y)-[:PhenotypeMemberOf]->(e), (v)-[:EnvironmentMemberOf]->(e),
  (r)-[:ExperimentReferenceOf]->(e)
FOREACH (_ IN CASE WHEN x.dataset = 'smf' THEN [1] ELSE [] END | CREATE (e)-[:ExperimentMemberOf]->(d))
FOREACH (_ IN CASE WHEN x.dataset = 'tmi' THEN [1] ELSE [] END | CREATE (e)-[:ExperimentMemberOf]->(t))
FOREACH (gene IN x.genes | CREATE (:Perturbation {systematic_gene_name: gene})-[:PerturbationMemberOf]->(g))
"""
EXPERIMENTS = [
    ("e1", "smf", ["YAL001C"], 0.9),
    ("e2", "smf", ["YAL002W"], 0.5),
    ("e3", "smf", ["YBR001C"], 0.7),
    ("e4", "tmi", ["YAL001C", "YAL002W", "YAL003W"], -0.2),
    ("e5", "tmi", ["YAL001C", "YAL002W", "YBR001C"], 0.1),
]
GENES = ["YAL001C", "YAL002W", "YAL003W"]
UNION = """\
// The shape of experiment 010: two kinds of experiments, one result
MATCH (d:Dataset {id: 'smf'})<-[:ExperimentMemberOf]-(e:Experiment)<-[:GenotypeMemberOf]-(g:Genotype)
WHERE ALL(gene IN [(g)<-[:PerturbationMemberOf]-(p:Perturbation) | p.systematic_gene_name] WHERE gene IN $gene_set)
RETURN e.id AS id, d.id AS dataset // singles
ORDER BY id
UNION ALL
MATCH (d:Dataset {id: 'tmi'})<-[:ExperimentMemberOf]-(e:Experiment)<-[:GenotypeMemberOf]-(g:Genotype)
MATCH (e)<-[:EnvironmentMemberOf]-(v:Environment)<-[:MediaMemberOf]-(m:Media {name: 'YEPD'})
MATCH (v)<-[:TemperatureMemberOf]-(c:Temperature {value: 30.0}), (e)<-[:PhenotypeMemberOf]-(y:Phenotype)
WHERE ALL(gene IN [(g)<-[:PerturbationMemberOf]-(p:Perturbation) | p.systematic_gene_name] WHERE gene IN $gene_set)
RETURN e.id AS id, d.id AS dataset
ORDER BY id
"""


@pytest.fixture(scope="session")
def graph(bolt):
    keys = ("id", "dataset", "genes", "fitness")
    rows = [dict(zip(keys, values, strict=True)) for values in EXPERIMENTS]
    bolt(GRAPH, experiments=[row | {"data": json.dumps({"experiment": row["id"]})} for row in rows])
    return bolt


# Call the command many times in one process, because most of the time of a refusal is the start of Python.
MANY = """\
import contextlib, json, os, sys
import query
environment = dict(os.environ)
for case in json.load(sys.stdin):
    os.environ.update(case.get("env", {}))
    for path, text in case.get("files", {}).items():
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    sys.argv = ["experiments/011-x/scripts/query.py", *case["words"]]
    with contextlib.suppress(SystemExit):
        query.main()
    os.environ.clear()
    os.environ.update(environment)
"""


class Queries:
    """The queries of an experiment, and ways to run them."""

    def __init__(self, lab, server, **answers):
        self.lab, self.server = lab, server
        self.experiment = lab.render(**answers)
        with (lab.path / ".env").open("a") as file:
            file.writelines(f'{name}="{value}"\n' for name, value in server.environment.items())
        self.folder = lab.data / "experiments/011-x/queries"
        self.outputs = []

    def write(self, name, query):
        (self.experiment / "queries" / f"{name}.cql").write_text(query)

    def __call__(self, *arguments, env=None, **kwargs):
        done = self.lab.python("experiments/011-x/scripts/query.py", *arguments, env=env, **kwargs)
        assert self.server.password not in done.stdout + done.stderr
        return done

    def program(self, text, *arguments, env=None, **kwargs):
        """Run a program that can import the experiment's scripts."""
        env = (env or {}) | {"PYTHONPATH": str(self.experiment / "scripts")}
        return self.lab.python("-c", text, *arguments, env=env, **kwargs)

    def rows(self, name="001_small_build"):
        return [json.loads(line) for line in (self.folder / f"{name}.jsonl").read_text("utf-8").splitlines()]

    def refused(self, *arguments, lines=1, **kwargs):
        """Return the message of a refusal, and check that the results are unchanged."""
        before = self.files()
        done = self(*arguments, **kwargs)
        assert done.returncode == 1 and done.stdout == ""
        assert self.files() == before
        assert done.stderr.count("\n") == lines, done.stderr
        return done.stderr

    def all_refused(self, *cases, env=None):
        """Return one line per refused case: its `words`, `env`, and `files` to write. Results stay unchanged."""
        before = self.files()
        done = self.program(MANY, input=json.dumps(cases), env=env)
        assert (done.returncode, done.stdout) == (0, "") and self.server.password not in done.stderr
        assert self.files() == before
        lines = done.stderr.splitlines()
        assert len(lines) == len(cases), done.stderr
        return [line.removeprefix("query.py: ") for line in lines]

    def files(self):
        return {path.name: path.read_bytes() for path in self.folder.iterdir()} if self.folder.exists() else {}


@pytest.fixture
def queries(lab, graph):
    return Queries(lab, graph)


PARAM = f"gene_set={json.dumps(GENES)}"


def test_sample_query_writes_rows_and_record(queries):
    done = queries("001_small_build", "--param", PARAM)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"3 rows: {queries.folder}/001_small_build.jsonl\n"
    assert queries.rows() == [
        {"dataset": dataset, "experiment": f'{{"experiment": "{name}"}}', "reference": '{"ref": 1}'}
        for dataset, name in (("smf", "e1"), ("smf", "e2"), ("tmi", "e4"))
    ]
    record = json.loads((queries.folder / "001_small_build.provenance.json").read_text())
    text = (queries.experiment / "queries/001_small_build.cql").read_text()
    assert record["query"] == text and record["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert record["parameters"] == {"gene_set": GENES} and record["rows"] == 3
    assert record["uri"] == queries.server.uri and "ArcadeDB" in record["server"]
    assert record["commit"] == git(queries.lab.path, "rev-parse", "HEAD").strip() and record["dirty"] is False
    assert 0 < record["seconds"] < 60 and record["started"] and record["script"] == "experiments/011-x/scripts/query.py"
    assert sorted(queries.files()) == ["001_small_build.jsonl", "001_small_build.provenance.json"]
    everything = b"".join(queries.files().values())
    assert queries.server.password.encode() not in everything
    assert git(queries.lab.path, "status", "--porcelain") == ""


def test_query_text_runs_unchanged(queries):
    queries.write("010_union", UNION)
    assert queries("010_union", "--param", PARAM).returncode == 0
    assert [tuple(row.values()) for row in queries.rows("010_union")] == [("e1", "smf"), ("e2", "smf"), ("e4", "tmi")]


def test_parameters_come_from_files_and_the_command_line(queries):
    queries.write("p", "RETURN $a AS a, $b AS b, $c AS c")
    (queries.experiment / "queries/p.json").write_text('{"a": 1, "b": 1, "c": 1}')
    (queries.lab.path / "b.json").write_text('["é", null, {"x": 2.5}]')
    assert queries("p", "--param", "b=@b.json", "--param", 'c="x=y"').returncode == 0
    assert queries.rows("p") == [{"a": 1, "b": ["é", None, {"x": 2.5}], "c": "x=y"}]


def test_limit_and_overwrite_options(queries):
    queries.write("n", "UNWIND range(1, 1000) AS n RETURN n")
    assert queries("n", "--limit", "10").returncode == 0
    assert queries.rows("n") == [{"n": n} for n in range(1, 11)]
    assert "exists. Use --overwrite to replace it." in queries.refused("n")
    assert queries("n", "--overwrite").returncode == 0
    assert len(queries.rows("n")) == 1000
    assert json.loads((queries.folder / "n.provenance.json").read_text())["rows"] == 1000


def test_values_of_graph_types_keep_their_properties(queries):
    queries.server("CREATE (:From:Here {n: 1})-[:Leads {weight: 0.5}]->(:To {n: 2})")
    queries.write("v", "MATCH p = (a:From)-[r:Leads]->(b:To) RETURN a, r, p, [b] AS nodes, {b: b} AS map")
    done = queries("v")
    assert done.returncode == 0, done.stderr
    [row] = queries.rows("v")
    a, b = row["p"]["nodes"]
    assert (a["labels"], a["properties"]) == (["From", "Here"], {"n": 1})
    assert (b["labels"], b["properties"]) == (["To"], {"n": 2})
    assert row["a"] == a and row["nodes"] == [b] and row["map"] == {"b": b}
    leads = {"id": row["r"]["id"], "type": "Leads", "start": a["id"], "end": b["id"], "properties": {"weight": 0.5}}
    assert row["r"] == leads and row["p"]["relationships"] == [leads]
    assert len({a["id"], b["id"]}) == 2


def test_values_without_a_json_form_are_refused_by_path(queries):
    """Points and durations are tuples, which Python's JSON encoder would write as plain lists."""
    program = """if True:
        import json, query
        from neo4j.time import *
        from neo4j.spatial import *
        times = [Date(2025, 5, 10), Time(1, 2, 3), DateTime(2025, 5, 10, 1), Duration(months=1, seconds=2)]
        print(json.dumps(query.as_json({"all": [*times, WGS84Point((1.5, 2.0))]}, "the column x")))
        for value in (float("nan"), float("-inf"), b"", object()):
            try:
                query.as_json({"a": [1, value]}, "the column x")
            except ValueError as error:
                print(error)
    """
    done = queries.program(program)
    assert done.returncode == 0, done.stderr
    written, *refused = done.stdout.splitlines()
    assert json.loads(written) == {
        "all": [
            "2025-05-10",
            "01:02:03.000000000",
            "2025-05-10T01:00:00.000000000",
            "P1MT2S",
            {"srid": 4326, "coordinates": [1.5, 2.0]},
        ]
    }
    assert refused == [
        "the column x.a[1] is nan, which JSON cannot represent",
        "the column x.a[1] is -inf, which JSON cannot represent",
        "the column x.a[1] is of type bytes, which JSON cannot represent. Return parts of it.",
        "the column x.a[1] is of type object, which JSON cannot represent. Return parts of it.",
    ]
    queries.write("d", "RETURN date('2025-05-10') AS day")
    assert queries("d").returncode == 0 and queries.rows("d") == [{"day": "2025-05-10"}]


def test_values_that_are_nan_keep_the_earlier_result(queries):
    queries.write("n", "UNWIND [1.0, 0.0] AS d RETURN d / d AS ratio")
    assert queries("n", "--limit", "1").returncode == 0
    assert queries.refused("n", "--overwrite") == "query.py: n: the column ratio is nan, which JSON cannot represent\n"


def test_query_without_rows_writes_an_empty_file(queries):
    assert queries("001_small_build", "--param", "gene_set=[]").returncode == 0
    assert queries.rows() == []


WRITE = "WITH n CREATE (:Written {n: n})"
COMMITS = [
    "UNWIND [1, 2, 3] AS n CALL { " + WRITE + " } IN TRANSACTIONS OF 1 ROWS RETURN n",
    "UNWIND [1] AS n CALL (n) { CREATE (:Written) } IN 3 CONCURRENT TRANSACTIONS RETURN n",
    "UNWIND [1] AS n call /* } */ (*) {\n" + WRITE + "\n} // {\n in\n$n concurrent transactions RETURN n",
    "CALL { UNWIND [1] AS n CALL { " + WRITE + " } IN TRANSACTIONS RETURN n } RETURN n",
    "UNWIND [1] AS n CALL { WITH n CREATE (:Written {n: $`a}b`}) } IN TRANSACTIONS OF 1 ROWS",
    "using periodic commit 1 LOAD CSV FROM 'file:///x' AS x CREATE (:Written)",
    "CALL apoc.periodic.iterate('MATCH (n) RETURN n', 'CREATE (:Written)', {})",
    "CREATE INDEX written IF NOT EXISTS FOR (n:Written) ON (n.n)",
    "CREATE USER ada SET PASSWORD 'longpassword1'",
    "drop user ada if exists",
    "CREATE OR REPLACE DATABASE own",
]


@pytest.mark.parametrize("query", ["CREATE (n:Written) RETURN n.id", "MATCH (m:Media) SET m.written = 1 RETURN m.name"])
def test_query_that_writes_is_rolled_back(queries, query):
    queries.write("w", query)
    reason = "it writes to the database, so it was rolled back. Write a query that only reads."
    assert queries.refused("w") == f"query.py: w: {reason}\n"
    assert queries.server("MATCH (n:Written) RETURN n") == []
    assert queries.server("MATCH (m:Media) WHERE m.written = 1 RETURN m") == []


def test_query_that_commits_itself_is_not_run(queries):
    program = "import query, sys\nfor text in sys.argv[1:]: print(query.commits_itself(text))"
    done = queries.program(program, *COMMITS)
    batches = "CALL { ... } IN TRANSACTIONS"
    others = ["PERIODIC COMMIT", "apoc.periodic", "CREATE or DROP of an index or a constraint"]
    accounts = ["a change of a user, role or database"] * 3
    assert done.stdout.splitlines() == [*[batches] * 5, *others, *accounts], done.stderr
    queries.write("w", COMMITS[0])
    reason = f"it was not run, because {batches} cannot be rolled back. Write a query that only reads."
    words = {"words": ["w"]}
    assert queries.all_refused(words, words | {"env": {"NEO4J_URI": "bolt://x"}}) == [f"w: {reason}"] * 2
    assert queries.server("MATCH (n:Written) RETURN n") == []


def test_query_comments_and_strings_are_not_code(queries):
    query = """\
// $no CALL { } IN TRANSACTIONS
/* $no
CREATE INDEX */ WITH [{a: 1}] AS transactions, 1 AS x
WHERE {a: 1} IN transactions AND NOT x IN [t IN transactions | 2]
CALL { WITH x RETURN x AS y }
RETURN '$no \\' CALL { } IN TRANSACTIONS' AS `$no`, $`a b` AS b, $é AS e, y // $no"""
    queries.write("c", query)
    done = queries("c", "--param", "a b=1", "--param", "é=2")
    assert done.returncode == 0, done.stderr
    assert list(queries.rows("c")[0].values()) == ["$no ' CALL { } IN TRANSACTIONS", 1, 2, 1]


def test_parameters_are_checked_before_connecting(queries):
    queries.write("p", "RETURN $a AS a, $b AS b, $a AS c")
    json_file, cypher = queries.experiment / "queries/p.json", queries.experiment / "queries/p.cql"
    mapping = f"{json_file} is not a mapping of parameters to values"
    reasons = [
        ([], {}, "no value for $a, $b. Use --param a=JSON, or write queries/p.json."),
        (["a=1"], {}, "no value for $b. Use --param b=JSON, or write queries/p.json."),
        *(([word], {}, f"the parameter {word} must be KEY=JSON or KEY=@FILE") for word in ("=3", "a", "=")),
        ([f"a={2**63}"], {}, f"the parameter a is an integer beyond 64 bits: {2**63}"),
        (['a={"x": [0, -9223372036854775809]}'], {}, "the parameter a.x[1] is an integer beyond 64 bits: "),
        (["a=NaN"], {}, "the parameter a is nan, which JSON cannot represent"),
        ([r'a="\ud800"'], {}, "the parameter a has an incomplete character"),
        ([r'a={"\ud800": 1}'], {}, "the parameter a, in a key, has an incomplete character"),
        (["a=1", "b=2", "B=3"], {}, "unknown parameter $B; expected one of: $a, $b"),
        (["a=[1"], {}, "the parameter a=[1 is not valid JSON: "),
        (["a=@none.json"], {}, "the file of the parameter a=@none.json cannot be read: "),
        *(([], {str(json_file): text}, mapping) for text in ("[1, 2]", "3", "null")),
        ([], {str(json_file): "{"}, f"{json_file} is not valid JSON: "),
        ([], {str(json_file): "\ufeff{}"}, f"{json_file} begins with a byte order mark. Save it as UTF-8 without one."),
        ([], {str(cypher): "\ufeffRETURN 1"}, f"{cypher} begins with a byte order mark. Save it as UTF-8 without one."),
        ([], {str(cypher): "RETURN '\udce9'"}, f"{cypher} is not UTF-8: "),
    ]
    cases = [{"words": ["p", *(f"--param={word}" for word in words)], "files": files} for words, files, _ in reasons]
    lines = queries.all_refused(*cases, env={"NEO4J_URI": f"bolt://127.0.0.1:{free_port()}"})
    for line, (_, _, reason) in zip(lines, reasons, strict=True):
        assert line.startswith(f"p: {reason}")


def test_list_and_dry_run_work_without_a_server(queries):
    queries.write("two", "RETURN $a AS a, $b AS b // $c")
    done = queries(env={"NEO4J_URI": "", "DATA_ROOT": ""})
    assert (done.returncode, done.stdout) == (0, "001_small_build $gene_set\ntwo $a $b\n")
    done = queries("two", "--dry-run", "--param", "a=1", "--param", 'b=["é"]', env={"NEO4J_URI": ""})
    rows = f"rows: {queries.folder / 'two.jsonl'}\n"
    assert (done.returncode, done.stdout) == (0, f'RETURN $a AS a, $b AS b // $c\n$a = 1\n$b = ["é"]\n{rows}')
    assert "no value for $b. " in queries.refused("two", "--dry-run", "--param", "a=1")
    assert queries.files() == {}


WITHOUT = "import sys; sys.modules.update(dict.fromkeys({}))\nsys.stdout.reconfigure(line_buffering=True)\n"


def test_driver_is_needed_only_to_run_a_query(queries):
    queries.write("two", "RETURN 1 AS one")
    words = [[], ["two", "--dry-run"], ["--help"], ["two"], ["two", "--dry-run", "--format", "parquet"]]
    program = WITHOUT.format(["neo4j", "tqdm", "pyarrow"]) + MANY
    done = queries.program(program, input=json.dumps([{"words": each} for each in words]))
    assert (
        done.stdout.startswith("001_small_build $gene_set\ntwo\nRETURN 1 AS one\nrows: ") and "usage: " in done.stdout
    )
    driver = f"query.py: two: not installed for {sys.executable}: neo4j, tqdm. Install: pip install neo4j tqdm\n"
    pyarrow = f"query.py: two: not installed for {sys.executable}: pyarrow. Install: pip install pyarrow\n"
    assert done.stderr == driver + pyarrow
    assert queries.files() == {}


# Parquet --------------------------------------------------------------------------------------------------------------


COLUMNS = """\
UNWIND [null, {a: 1}, {a: 2, late: ["x", null]}] AS map
RETURN map.late[0] AS `null first`, CASE map.a WHEN 2 THEN 0.5 ELSE map.a END AS number, map, [] AS nothing, "é" AS text
"""


def test_parquet_has_the_rows_of_the_json_lines(queries):
    """The type of a column is known after its last row: null comes before text, and keys of maps appear late."""
    parquet = pytest.importorskip("pyarrow.parquet")
    queries.write("t", COLUMNS)
    assert queries("t").returncode == 0
    done = queries("t", "--format", "parquet")
    assert (done.returncode, done.stdout) == (0, f"3 rows: {queries.folder}/t.parquet\n"), done.stderr
    table = parquet.read_table(queries.folder / "t.parquet")
    rows = queries.rows("t")
    rows[1]["map"]["late"] = None
    assert table.to_pylist() == rows and rows[2]["map"] == {"a": 2, "late": ["x", None]}
    assert [str(each.type) for each in table.schema][:2] == ["string", "double"]
    lines, table = (json.loads((queries.folder / f"t{name}.provenance.json").read_text()) for name in ("", ".parquet"))
    assert table["query"] == lines["query"] and table["rows"] == 3 and "--format parquet" in table["command"]
    assert sorted(queries.files()) == ["t.jsonl", "t.parquet", "t.parquet.provenance.json", "t.provenance.json"]
    assert "t.parquet exists. Use --overwrite" in queries.refused("t", "--format=parquet")


BATCHES = """\
import json, sys
from runtime import parquet
parquet.ROWS = 2
rows = json.load(sys.stdin)
for number, values in enumerate(rows):
    with open(f"{number}.jsonl", "w") as file:
        file.writelines(json.dumps({"a": value, "b": number}) + "\\n" for value in values)
    try:
        parquet.write_parquet(f"{number}.jsonl", f"{number}.parquet", ["a", "b"])
    except ValueError as error:
        print(error)
"""


def test_parquet_refuses_mixed_columns_by_name(queries):
    parquet = pytest.importorskip("pyarrow.parquet")
    advice = "Return other values, or use --format jsonl."
    large = "the column a has floats and integers beyond 2^53"
    refused = {
        "the column a has integers and strings, which Parquet cannot mix": [None, 1, 2, "x"],
        "the column a[].k has booleans and integers, which Parquet cannot mix": [[{"k": 1}], [{"k": True}]],
        "the column a has lists and maps, which Parquet cannot mix": [[], {}],
        "the column a has only empty maps, which Parquet cannot store": [{}, None],
        f"{large}, which Parquet cannot mix": [2**53 + 1, 0.5],
        f"{large}, which  Parquet cannot mix": [0.5, 1, 2**53 + 1],
    }
    kept = [[], [1, None, 2**63 - 1, 4, 5], [2**53, 0.5]]
    done = queries.program(BATCHES, input=json.dumps([*refused.values(), *kept]))
    assert done.stdout.splitlines() == [f"{' '.join(reason.split())}. {advice}" for reason in refused], done.stderr
    for number, values in enumerate(kept, len(refused)):
        table = parquet.read_table(queries.lab.path / f"{number}.parquet")
        assert table["a"].to_pylist() == values and table["b"].to_pylist() == [number] * len(values)


def test_query_name_must_be_a_file_in_queries(queries):
    folder = queries.experiment / "queries"
    (folder / "a").mkdir()
    (folder / "a/b.cql").write_text("RETURN 1")
    names = ["../queries/001_small_build", str(folder / "001_small_build"), "a/b", "001_small_build.cql", "", "00"]
    lines = queries.all_refused(*({"words": [name]} for name in names))
    assert lines == [f"{name or 'queries'}: unknown query; expected one of: 001_small_build" for name in names]
    shutil.move(folder / "001_small_build.cql", folder / "a")
    assert queries.refused("001") == "query.py: 001: unknown query; expected one of: (queries/ is empty)\n"
    shutil.move(folder / "a/001_small_build.cql", folder)
    (folder / "link.cql").symlink_to("/etc/hostname")
    assert "link.cql is a symlink, so the query is not part of this experiment" in queries.refused("link")


def test_query_number_must_be_unique(queries):
    assert queries("001", "--param", PARAM).stdout.endswith("001_small_build.jsonl\n")
    queries.write("001_other", "RETURN 1")
    refusal = queries.refused("001")
    assert "several queries have this number. Use one of the names: 001_other, 001_small_build" in refusal


# Concurrency and kills ------------------------------------------------------------------------------------------------


def start(queries, *arguments, program="", env=None):
    words = ["-c", program] if program else ["experiments/011-x/scripts/query.py", *arguments]
    command = [sys.executable, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=queries.lab.path, env=os.environ | (env or {}), **pipes)


def ends(processes):
    return [(*process.communicate(timeout=60), process.returncode) for process in processes]


def is_a_pair(queries):
    """Check that rows and record, if both exist, come from one run of `n`."""
    record = queries.folder / "n.provenance.json"
    return not record.exists() or json.loads(record.read_text())["parameters"]["run"] == queries.rows("n")[0]["run"]


def test_concurrent_queries_without_overwrite_are_refused(queries):
    queries.write("n", "UNWIND range(1, 20000) AS n RETURN n, $run AS run")
    done = ends([start(queries, "n", "--param", f"run={run}") for run in range(3)])
    assert sorted(code for _, _, code in done) == [0, 1, 1]
    assert all("exists" in err and err.count("\n") == 1 for _, err, code in done if code)
    assert is_a_pair(queries) and sorted(queries.files()) == ["n.jsonl", "n.provenance.json"]


def test_concurrent_queries_keep_rows_and_record_paired(queries):
    queries.write("n", "UNWIND range(1, 3) AS n RETURN n, $run AS run")
    done = ends([start(queries, "n", "--overwrite", "--param", f"run={run}") for run in range(4)])
    assert {code for _, _, code in done} == {0}
    assert is_a_pair(queries) and sorted(queries.files()) == ["n.jsonl", "n.provenance.json"]


def waits_for_lock(process):
    """Return whether a process waits for a file's lock."""
    with open("/proc/locks") as file:
        return any(words[1] == "->" and int(words[5]) == process.pid for words in map(str.split, file))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the processes that wait for locks")
def test_writers_publish_rows_and_record_one_after_the_other(queries):
    """One writer stops between its rows and its record. Another one must wait, or its rows would get that record."""
    queries.write("n", "RETURN $run AS run")
    stopped, go_on = queries.lab.path / "stopped", queries.lab.path / "go_on"
    program = f"""if True:
        import os, query, sys, time
        replace = os.replace
        def stop(part, path):
            replace(part, path)
            if str(path).endswith("n.jsonl"):
                open({str(stopped)!r}, "w").close()
                while not os.path.exists({str(go_on)!r}):
                    time.sleep(0.01)
        os.replace = stop
        sys.argv = ["query.py", "n", "--overwrite", "--param", "run=1"]
        query.main()
    """
    scripts = {"PYTHONPATH": str(queries.experiment / "scripts")}
    first = start(queries, program=program, env=scripts)
    wait_until(stopped.exists)
    second = start(queries, "n", "--overwrite", "--param", "run=2")
    wait_until(lambda: second.poll() is not None or waits_for_lock(second))
    go_on.touch()
    assert [code for _, _, code in ends([first, second])] == [0, 0]
    assert queries.rows("n") == [{"run": 2}] and is_a_pair(queries)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_overwrite_keeps_rows_and_record_paired(queries, number):
    """The process kills itself right after it renamed its rows."""
    queries.write("n", "RETURN $run AS run")
    assert queries("n", "--param", "run=0").returncode == 0
    program = f"""if True:
        import os, query, sys
        replace = os.replace
        def stopped(part, path):
            replace(part, path)
            if str(path).endswith("n.jsonl"):
                os.kill(os.getpid(), {int(number)})
        os.replace = stopped
        sys.argv = ["query.py", "n", "--overwrite", "--param", "run=1"]
        query.main()
    """
    done = queries.program(program)
    assert done.returncode == (1 if number == signal.SIGTERM else -signal.SIGKILL)
    assert queries.rows("n") == [{"run": 1}] and is_a_pair(queries)
    assert (queries.folder / "n.provenance.json").exists() == (number == signal.SIGTERM)
    assert queries("n", "--overwrite", "--param", "run=2").returncode == 0
    assert queries.rows("n") == [{"run": 2}] and is_a_pair(queries)


# As a job -------------------------------------------------------------------------------------------------------------


def test_query_job_equals_a_query_by_hand(lab, slurm, graph):
    jobs = Submitter(lab, slurm, runs={"query": ["gh_001"]})
    with (lab.path / ".env").open("a") as file:
        file.writelines(f'{name}="{value}"\n' for name, value in graph.environment.items())
    rows = lab.data / "experiments/011-x/queries/001_small_build.jsonl"

    def job(*arguments):
        [number] = submitted(jobs.submit("gh_query_001", *arguments))
        return slurm.wait(number)["JobState"], (jobs.logs / f"011-query_gh_001_{number}.out").read_text()

    state, log = job("--param", PARAM)
    assert state == "COMPLETED" and log.startswith("host ") and log.endswith(f"\n3 rows: {rows}\n")
    by_job = rows.read_bytes()
    record = json.loads(rows.with_suffix(".provenance.json").read_text())
    assert record["slurm"]["SLURM_JOB_NAME"] == "011-query_gh_001"
    exists = f"submit.sh: gh_query_001: query.py: 001: {rows} exists. Use --overwrite to replace it."
    assert jobs.refused("gh_query_001", "--param", PARAM) == exists
    (lab.path / "genes.json").write_text('["YAL001C"]')
    refused = {
        "": "no value for $gene_set. ",
        "gene_set=[1": "the parameter gene_set=[1 is not valid JSON: ",
        "gene_set": "the parameter gene_set must be KEY=JSON or KEY=@FILE",
        "gene_set=@genes.json": "the file of the parameter gene_set=@genes.json cannot be read: ",
    }
    for word, reason in refused.items():
        words = ["--param", word] if word else []
        line = jobs.refused("gh_query_001", "--overwrite", *words)
        assert line.startswith(f"submit.sh: gh_query_001: query.py: 001: {reason}")
    text = (lab.path / ".env").read_text()
    (lab.path / ".env").write_text(text.replace("NEO4J_URI=", "OTHER="))
    assert "gh_query_001: NEO4J_URI is not set. Set it in " in jobs.refused("gh_query_001", "--overwrite")
    (lab.path / ".env").write_text(text)
    done = lab.python("experiments/011-x/scripts/query.py", "001", "--overwrite", "--param", PARAM)
    assert done.returncode == 0 and rows.read_bytes() == by_job
    assert job("--overwrite", "--param", 'gene_set=["YAL001C"]')[0] == "COMPLETED"
    assert len(rows.read_text().splitlines()) == 1


def test_missing_or_empty_variable_is_refused(queries):
    for variable in ("NEO4J_URI", "NEO4J_USERNAME", "NEO4J_PASSWORD", "NEO4J_DATABASE", "DATA_ROOT"):
        message = queries.refused("001_small_build", env={variable: ""}, lines=2)
        assert message.startswith(f"{variable} is empty.\nSet {variable} in ")
    env = (queries.lab.path / ".env").read_text()
    (queries.lab.path / ".env").write_text(env.replace("NEO4J_USERNAME", "OTHER"))
    assert queries.refused("001_small_build", lines=2).startswith("NEO4J_USERNAME is not set.\n")


def test_invalid_input_is_reported_in_one_line(queries):
    queries.write("bad", "MATCH (n)\nRETURN n WHERE")
    password = queries.server.password
    given = ["--param", PARAM]
    reasons = [
        (["nowhere"], {}, "unknown query; expected one of: 001_small_build, bad"),
        (["bad"], {}, r"line 2\W"),
        (["001", *given], {"NEO4J_PASSWORD": "wrong"}, "Authentication failed"),
        (["001", *given], {"NEO4J_DATABASE": "nope"}, "nope"),
        (["001", *given], {"NEO4J_URI": f"bolt://u:{password}@127.0.0.1"}, "without a user or a password"),
        *(
            (["001", *given], {"NEO4J_URI": uri}, "must be bolt://")
            for uri in ("http://127.0.0.1", "bolt", "bolt:x:7687")
        ),
        (["001", *given], {"NEO4J_URI": f"bolt://127.0.0.1:{free_port()}"}, "Couldn't connect to 127.0.0.1:"),
    ]
    lines = queries.all_refused(*({"words": words, "env": env} for words, env, _ in reasons))
    for line, (_, _, reason) in zip(lines, reasons, strict=True):
        assert re.search(reason, line), line
    assert "cannot write to" in queries.refused("bad", env={"DATA_ROOT": "/proc"}, lines=2)


def test_full_disk_keeps_the_earlier_result(queries):
    queries.write("n", "UNWIND range(1, 100000) AS n RETURN n, 'row' AS text")
    assert queries("n", "--limit", "5").returncode == 0

    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    reason = f"[Errno 27] File too large: '{queries.folder / 'n.jsonl'}'"
    assert reason in queries.refused("n", "--overwrite", preexec_fn=small)
    assert len(queries.rows("n")) == 5
    refusal = queries.refused("n", "--dry-run")
    assert f"n: {queries.folder / 'n.jsonl'} exists. Use --overwrite to replace it." in refusal
    assert queries("n", "--dry-run", "--overwrite").returncode == 0


MANY_ROWS = "UNWIND range(1, 500000) AS n RETURN n, 'some text to make the row longer' AS text"


def wait_for_rows(queries, parts):
    """Wait until rows arrive in this number of files."""
    sizes = lambda: [part.stat().st_size for part in queries.folder.glob("n.jsonl.*.part")]  # noqa: E731
    wait_until(lambda: len(found := sizes()) == parts and all(found))


def test_interrupted_query_leaves_nothing(queries):
    queries.write("n", MANY_ROWS)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        process = start(queries, "n")
        wait_for_rows(queries, 1)
        process.send_signal(number)
        assert ends([process]) == [("", "query.py: n: interrupted\n", 1)]
    assert queries.files() == {}


def test_interrupted_connection_leaves_nothing(queries):
    queries.write("n", MANY_ROWS)
    with BreakableProxy(queries.server.uri) as proxy:
        process = start(queries, "n", env={"NEO4J_URI": proxy.uri})
        wait_for_rows(queries, 1)
        proxy.cut()
        [(out, err, code)] = ends([process])
    assert (out, code) == ("", 1) and err.startswith("query.py: n: ") and err.count("\n") == 1
    assert queries.server.password not in err and queries.files() == {}


@pytest.mark.parametrize("version", ["4.4.11", "5.28.4"])
def test_driver_versions_that_are_older_work(queries, version):
    """`uv run` installs what the script's metadata requires. All other tests use the newest driver."""
    queries.write("v", "MATCH (m:Media) RETURN m, m.name AS name")
    command = ["uv", "run", "--quiet", "--python", sys.executable, "--with", f"neo4j=={version}", "--script"]
    command.append("experiments/011-x/scripts/query.py")
    done = run(*command, "v", cwd=queries.lab.path)
    assert done.returncode == 0, done.stderr
    assert queries.rows("v")[0]["m"]["properties"] == {"name": "YEPD"}
    queries.write("w", "CREATE (n:Written) RETURN n.id")
    done = run(*command, "w", cwd=queries.lab.path)
    assert done.returncode == 1 and "it writes" in done.stderr and done.stderr.count("\n") == 1
    assert queries.server("MATCH (n:Written) RETURN n") == []


def test_rendered_readme_command_works(queries):
    readme = (queries.experiment / "README.md").read_text()
    [command] = re.findall("^python .*query.py .*$", readme, flags=re.MULTILINE)
    done = run("bash", "-c", command.replace("YMR001C", "YAL001C").replace("YMR002W", "YAL002W"), cwd=queries.lab.path)
    assert (done.returncode, done.stdout) == (0, f"2 rows: {queries.folder}/001_small_build.jsonl\n"), done.stderr


def test_query_script_is_absent_without_queries(lab):
    assert not (lab.render("012-y", queries=False) / "scripts/query.py").exists()
