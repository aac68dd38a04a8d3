"""A run's model, with its card, goes to the Hugging Face Hub, or to the server that HF_ENDPOINT names."""

from pathlib import Path

from bertkit import __version__
from bertkit.errors import BertkitError, one_line
from bertkit.recipe import ModelConfig
from bertkit.run.card import MODEL
from bertkit.rundir import RunDir


def files_to_push(run: str | Path) -> dict[str, int]:
    """Name -> bytes of the files that `push` uploads: those of `model/`, its card among them.

    Raises:
        BertkitError: the run has no model yet, or its model is an adapter for a folder of this machine.
    """
    from bertkit.models.adapters import base_of

    folder = RunDir(run).open()
    if not folder["metrics.json"].exists():
        raise BertkitError(f"{folder.path} has no model yet", hint="finish it with `bertkit train ... --resume`")
    base = base_of(ModelConfig(checkpoint=str(folder.model)))
    if base is not None and Path(base.checkpoint).is_dir():
        raise BertkitError(
            f"{folder.path} is an adapter for {base.checkpoint}, a folder that others do not have",
            hint=f"write the whole model with `bertkit merge {folder.path} --out FOLDER`, and upload that",
        )
    return {path.name: path.stat().st_size for path in sorted(folder.model.iterdir())}


def push(run: str | Path, repo: str, private: bool = True) -> str:
    """Upload the model of a finished run; returns the address of the commit.

    Args:
        repo: `owner/name`; made when there is none.
        private: of a repository that is made.
    Raises:
        BertkitError: the run has no model, nobody is logged in, or the server refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    model = RunDir(run).model
    files: dict[str, str | bytes] = {name: str(model / name) for name in files_to_push(run)}
    if "README.md" in files:
        files["README.md"] = Path(files["README.md"]).read_text(encoding="utf-8").replace(MODEL, repo).encode()
    api = HfApi(library_name="bertkit", library_version=__version__)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        added = [CommitOperationAdd(name, content) for name, content in files.items()]
        done = api.create_commit(repo, added, commit_message="Add a model fine-tuned with bertkit")
    except (LocalTokenNotFoundError, HFValidationError, HfHubHTTPError, OSError) as error:
        hint = "log in with `hf auth login`, or set HF_TOKEN, and check the name OWNER/NAME and the network"
        raise BertkitError(f"{repo}: the model was not pushed: {one_line(str(error))[:300]}", hint=hint) from None
    return str(done.commit_url)
