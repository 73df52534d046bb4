"""Mode `live`: serve the page of an agent, trained or still learning."""

from agents.cli.run_spec import RunSpec
from tasks.core.settings import ConfigError


def serve_run(spec: RunSpec) -> int:
    """Serve the live page of a run until Ctrl-C; return the exit code."""
    try:
        from visualization.live.server import serve
    except ModuleNotFoundError as error:
        problem = f"needs {error.name}, which is not installed"
        accepted = "pip install 'terrarium[live]'"
        raise ConfigError("--mode", "live", problem, accepted) from None
    from agents.core.inspection.live import live_of

    agent = spec.load_watched()
    options = spec.options
    try:
        serve(
            live_of(agent, spec.run_dir), options.host or "127.0.0.1", options.port or 0,
            lambda address: print(f"{address}  (Ctrl-C stops the server)", flush=True),
        )  # fmt: skip
    except ValueError as error:  # of the port or host, or nothing to show
        raise ConfigError("--mode", "live", str(error), "see --help") from None
    return 0
