"""`rowfleet estimate`: calls, tokens, price and time of a run, without a call or by those of a sample."""

from tests.acceptance.support import Cli, HttpAgent

MAPPING = """target: {type: agent, name: up, invoke: http, url: '${AGENT_URL}'}
input_mapping: {column_mappings: {name: name}}
output_mapping: {extraction_methods: [{method: jmespath, paths: {category: category}}]}
reuse: batch
pricing: {input_per_million: 0.15, output_per_million: 0.6}
"""


def test_before_and_after_a_run(cli: Cli, agent: HttpAgent) -> None:
    """Nothing is called; after a run its tokens and its time are those of the estimate."""
    cli.write("mappings/priced.yaml", MAPPING)
    cli.write("in.csv", "name\nann\nbob\nann\ncy,1\n")
    before = cli("estimate", "in.csv", "--mapping", "priced", "--json")
    assert (before.code, agent.calls) == (0, []), before.stderr
    found = before.json
    assert (found["rows"], found["unsendable"], found["distinct_inputs"], found["calls"]) == (4, 1, 2, 2)
    assert found["estimate"] == {"low": "0.00000075", "high": None}
    usage = {"prompt_tokens": 1_000, "completion_tokens": 500}
    agent.answer = lambda body: (200, {"category": body["name"], "usage": usage})
    assert cli("run", "in.csv", "--mapping", "priced").code == 3
    assert sorted(agent.names()) == ["ann", "bob"]
    after = cli("estimate", "in.csv", "--mapping", "priced", "--json").json
    assert len(agent.calls) == 2
    assert after["output_tokens"] == {"low": 1_000, "high": 1_000, "from": "last_runs"}
    # two calls of 1,000 tokens in and 500 out
    assert after["estimate"]["high"] == "0.0009"
    assert after["last_runs"]["calls"] == 2
    assert after["seconds"] is not None
    shown = cli("estimate", "in.csv", "--mapping", "priced")
    assert "as in its last run" in shown.stdout


def test_a_sample_is_kept_for_the_run(cli: Cli, agent: HttpAgent) -> None:
    """Its rows are called for once, by the estimate; the run approves it and calls for the others."""
    cli.write("mappings/priced.yaml", MAPPING)
    names = [f"p{n:02}" for n in range(12)]
    cli.write("in.csv", "name\n" + "".join(f"{name}\n" for name in names))
    usage = {"prompt_tokens": 1_000, "completion_tokens": 500}
    agent.answer = lambda body: (200, {"category": body["name"], "usage": usage})
    first = cli("estimate", "in.csv", "--mapping", "priced", "--sample", 3)
    assert first.code == 0, first.stderr
    assert sorted(agent.names()) == names[:3]
    assert "rowfleet approve priced#in-" in first.stdout
    sample = cli("estimate", "in.csv", "--mapping", "priced", "--sample", 3, "--json").json["sample"]
    assert (sample["rows"], sample["succeeded"], sample["cost_per_row"]) == (3, 3, "0.00045")
    assert (sample["rest"]["rows"], sample["rest"]["low"]) == (9, "0.00405")
    held = cli("status", sample["batch_id"], "--json").json["holds"]["approval"]
    assert held["detail"]["sample"]["rest"]["rows"] == 9
    refused = cli("run", "in.csv", "--mapping", "priced", "--limit", 5)
    assert refused.code == 2
    assert f"rowfleet approve {sample['batch_id']}" in refused.stderr
    assert len(agent.calls) == 3
    run = cli("run", "in.csv", "--mapping", "priced")
    assert run.code == 0, run.stderr
    assert "which counts as approved by" in run.stderr
    assert sorted(agent.names()) == names


def test_no_price(cli: Cli, agent: HttpAgent) -> None:
    """Without `pricing` it is null, with the reason, and the exit code is 0."""
    cli.write("in.csv", "name\nann\nbob\n")
    done = cli("estimate", "in.csv", "--mapping", "up", "--limit", "1", "--json")
    assert (done.code, agent.calls) == (0, []), done.stderr
    assert (done.json["rows"], done.json["estimate"]) == (1, None)
    assert done.json["no_price"] == "the mapping states no `pricing`"


def test_mistakes(cli: Cli) -> None:
    """A file that a run would refuse: exit code 1; one that is not there, and a wrong price: 2."""
    cli.write("in.csv", "nam\nann\n")
    cli.write("mappings/priced.yaml", MAPPING)
    missing = cli("estimate", "in.csv", "--mapping", "priced")
    assert (missing.code, missing.stdout) == (1, "")
    assert "name" in missing.stderr
    assert cli("estimate", "no.csv", "--mapping", "priced").code == 2
    cli.write("mappings/wrong.yaml", MAPPING.replace("0.15", "-1"))
    lone = cli("estimate", "in.csv", "--mapping", "priced", "--sample-random")
    assert (lone.code, lone.stderr) == (2, "rowfleet: --sample-random needs --sample N\n")
    refused = cli("estimate", "in.csv", "--mapping", "wrong")
    assert refused.code == 2
    assert "wrong.yaml:5: pricing.input_per_million: must be from 0 to 1,000,000" in refused.stderr
    assert refused.stdout == ""
