"""`python -m src adapt`: from a folder of images to an adapter file, with a tiny ViT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from src import load_backbone
from src.__main__ import main
from src.backbones.adapter_file import read_metadata
from src.commands.adapt import command as adapt
from src.commands.adapt import outcome
from src.commands.adapt.settings import Settings
from src.config.yaml_reader import read
from src.evaluation.fair_verdict import FairEvidence, fair_verdict
from src.evaluation.significance import Interval


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images of several kinds in `images/`, weights in `test_vit.pth`, and settings that take a second."""
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for index in range(5):
        pixels = rng.integers(256, size=(48 + index, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
    Image.fromarray(rng.integers(9000, 12000, size=(64, 64)).astype(np.uint16)).save(
        tmp_path / "images" / "deep" / "x.png"
    )
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "test_vit.pth")
    monkeypatch.setattr(adapt, "choose", lambda *_: Settings("glare-calibrated", 6, 4, 32, 16, 1e-3, "32-true"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return tmp_path


def command(folder: Path, *more: str, out: str = "out") -> int:
    backbone = ["--backbone", "test_vit", "--weights", str(folder / "test_vit.pth")]
    return main(["adapt", str(folder / "images"), "--out", str(folder / out), *backbone, *more])


def test_it_leaves_an_adapter_a_log_pictures_and_two_lines_that_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(folder) == 0
    out, text = folder / "out", capsys.readouterr().out
    assert "6 images used" in text
    assert "chosen for 6 images" in text
    assert (out / "adapt.log").read_text().splitlines()[0] == "6 images used"
    said = [line for line in text.splitlines() if line.strip().startswith("effective rank of patches")]
    frozen_rank, adapted_rank = (float(number) for number in said[0].split()[-2:])
    assert frozen_rank > 1 and adapted_rank > 1
    metadata = read_metadata(out / "adapter.safetensors")
    assert (metadata["step"], metadata["whose"], metadata["backbone"]) == ("6", "teacher", "test_vit")

    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    found = json.loads((out / "verdict.json").read_text())
    assert found["word"] in ("no sign of harm", "broken") and found["images"] == 6 and not found["rows"]
    assert found["sentence"] in text and "helped" not in found["sentence"]
    page = (out / "report.html").read_text()
    assert "data:image/jpeg" in page and lines[-1].replace('"', "&#34;") in page
    assert len(lines) == 2 and "frozen  adapted" not in lines[0]
    scope: dict[str, object] = {}
    exec("\n".join(lines), scope)
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    adapted, frozen = scope["backbone"], load_backbone("test_vit", weights=str(folder / "test_vit.pth"))
    with torch.no_grad():
        after, before = adapted(images).patches, frozen(images).patches  # type: ignore[operator]
        with adapted.adapters_off():  # type: ignore[attr-defined]
            assert torch.equal(adapted(images).patches, before)  # type: ignore[operator]
    assert not torch.equal(after, before)

    pictures = sorted((out / "pictures").glob("features-*.png"))
    assert len(pictures) == 4
    pixels = np.asarray(Image.open(pictures[0])).astype(int)
    third = pixels.shape[1] // 3
    assert pixels[30:-10, third + 10 : 2 * third - 10].std() > 10  # features, not a blank


def painted_masks(folder: Path, names: list[str], into: str) -> None:
    (folder / into).mkdir()
    for name in names:
        image = Image.open(folder / "images" / f"{name}.png")
        mask = np.zeros((image.height, image.width), np.uint8)
        mask[:, image.width // 2 :] = 1
        Image.fromarray(mask).save(folder / into / f"{name}.png")


@pytest.mark.parametrize("place", ["marked", "images/masks"])
def test_with_a_few_masks_it_compares_with_the_frozen_model(
    folder: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    painted_masks(folder, ["0", "2", "3", "4"], place)
    assert command(folder, "--masks", str(folder / place), "--max_steps", "2") == 0
    text, out = capsys.readouterr().out, folder / "out"
    found = json.loads((out / "verdict.json").read_text())
    assert found["word"] in ("helped", "harmed", "mixed", "inconclusive") and found["images"] == 4
    assert set(found["rows"]) == {"frozen", "averaged", "adapted"}
    assert list(found["strengths"]) == ["0", "0.5", "1"]
    assert found["strengths"]["0"] == found["rows"]["frozen"] != found["rows"]["averaged"]
    assert found["strengths"]["1"] == found["rows"]["adapted"]
    change = found["changes"]["miou"]
    assert change["low"] <= change["difference"] <= change["high"]
    assert change["difference"] == pytest.approx(found["rows"]["adapted"]["miou"] - found["rows"]["frozen"]["miou"])
    assert "6 images used" in text and "4 labelled images, 4 folds" in text and found["sentence"] in text
    assert "From frozen (0) to adapted (1)" in (out / "report.html").read_text()


def test_an_adapter_that_is_worse_is_written_named_so_and_the_frozen_model_recommended(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    painted_masks(folder, ["0", "2", "3", "4"], "marked")
    fell = Interval(-5.0, -6.0, -4.0, 0.0)
    rose = Interval(5.0, 4.0, 6.0, 1.0)
    evidence = FairEvidence(linear=fell, average_precision=fell, cross_entropy=rose, neighbours=fell, seeds=1)
    real = outcome.compare
    monkeypatch.setattr(outcome, "compare", lambda *rows: (real(*rows)[0], fair_verdict(evidence)))
    assert command(folder, "--masks", str(folder / "marked"), "--max_steps", "1") == 0
    text = capsys.readouterr().out
    assert (folder / "out" / "adapter.safetensors").is_file()
    found = json.loads((folder / "out" / "verdict.json").read_text())
    assert (found["word"], found["recommended"]) == ("harmed", "frozen")
    assert "worse than the frozen model: use the frozen model" in found["sentence"]
    assert "MB), which is worse than the frozen model" in text
    assert "It made results worse" in (folder / "out" / "report.html").read_text()
    assert found["sentence"] in (folder / "out" / "README.md").read_text()


def test_masks_that_are_missing_or_too_few_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(folder, "--masks", str(folder / "nowhere")) == 1
    assert "expected a folder of masks" in capsys.readouterr().err
    painted_masks(folder, ["0", "2"], "marked")
    assert command(folder, "--masks", str(folder / "marked"), "--max_steps", "1") == 1
    assert "at least 3 labelled images, found 2" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["one mask", "colours", "another size", "negative ids", "one id"])
def test_masks_of_no_use_are_found_before_anything_is_trained(
    folder: Path, fault: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt, "run", lambda *_: pytest.fail("trained"))
    painted_masks(folder, ["0"] if fault == "one mask" else ["0", "2", "3", "4"], "marked")
    path, said = folder / "marked" / "3.png", "at least 3 labelled images, found 1"
    if fault == "colours":
        Image.new("RGB", (64, 51), (1, 2, 3)).save(path)
        said = "expected a mask with one channel of class ids, found mode RGB"
    elif fault == "another size":
        Image.new("L", (64, 50)).save(path)
        said = "expected a mask of its image's size, 64×51"
    elif fault == "negative ids":
        path.unlink()
        Image.new("I", (64, 51), -7).save(path.with_suffix(".tif"))
        said = "found -7"
    elif fault == "one id":
        for mask in (folder / "marked").iterdir():
            Image.new("L", Image.open(mask).size, 255).save(mask)
        said = "expected masks of two classes or more"
    assert command(folder, "--masks", str(folder / "marked")) == 1
    assert said in capsys.readouterr().err


def test_images_that_were_replaced_are_no_resume(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(folder, "--max_steps", "1") == 0
    Image.new("RGB", (64, 48)).save(folder / "images" / "0.png")
    assert command(folder, "--max_steps", "1") == 1
    assert "holds a run with other settings (contents: " in capsys.readouterr().err


def test_without_masks_images_are_held_out_where_there_are_ten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(4):
        Image.fromarray(np.full((40, 40, 3), 50 * index, np.uint8)).save(folder / "images" / f"more-{index}.png")
    assert command(folder, "--max_steps", "1") == 0
    text = capsys.readouterr().out
    assert "10 images used, 2 of them held out" in text and "over 2 held-out images" in text
    assert read(folder / "out" / "adapt.yaml")["data"]["init_args"]["max_images"] == 8


def test_the_method_is_calibrated_unless_asked_for_pure_glare(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(folder, "--max_steps", "1") == 0
    assert "the calibrated preset, 6 steps" in capsys.readouterr().out
    assert read_metadata(folder / "out" / "adapter.safetensors")["adapter"].endswith("LoRA")
    assert command(folder, "--method", "glare", "--max_steps", "1", out="pure") == 0
    assert read_metadata(folder / "pure" / "adapter.safetensors")["adapter"].endswith("UniAdapter")


def test_started_again_it_goes_on_from_its_checkpoint(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(folder, out="calm") == 0
    from tests.command_line import FailAt

    real = adapt.run

    def failing(arguments: list[str]):
        with monkeypatch.context() as patch:
            patch.setattr("src.cli.Throughput", lambda: FailAt(3))
            return real(arguments)

    monkeypatch.setattr(adapt, "run", failing)
    assert command(folder) == 1
    assert (folder / "out" / "checkpoints" / "last.ckpt").is_file()
    monkeypatch.setattr(adapt, "run", real)
    given: list[list[str]] = []
    monkeypatch.setattr(adapt, "run", lambda arguments: given.append(arguments) or real(arguments))
    assert command(folder) == 0
    assert "--ckpt_path" in given[0]
    files = [folder / name / "adapter.safetensors" for name in ("calm", "out")]
    calm, resumed = (
        load_backbone("test_vit", weights=str(folder / "test_vit.pth"), adapter=str(file)) for file in files
    )
    for (name, one), (_, other) in zip(calm.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_another_request_does_not_mix_with_what_is_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(folder, "--max_steps", "1") == 0
    assert command(folder, "--max_steps", "2") == 1
    error = capsys.readouterr().err
    assert "trainer.max_steps: 1 → 2" in error
    assert "--out" in error


def test_a_bad_file_stops_it_by_name_before_anything_is_trained(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (folder / "images" / "1.png").read_bytes()
    (folder / "images" / "2.png").write_bytes(content[: len(content) // 2])
    monkeypatch.setattr(adapt, "run", lambda arguments: pytest.fail("trained"))
    assert command(folder) == 1
    error = capsys.readouterr().err
    assert "2.png" in error
    assert len(error.strip().splitlines()) == 1


def test_bad_files_may_be_skipped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "images" / "2.png").write_bytes(b"no image")
    assert command(folder, "--on_error", "skip", "--max_steps", "1") == 0
    assert "5 images used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--max_steps", "0"], 2, "--max-steps: expected a whole number from 1, found '0'"),
        (["--on_error", "stop"], 2, "expected one of raise, skip, found 'stop'"),
        (["--method", "dino"], 2, "expected one of glare-calibrated, glare, found 'dino'"),
        (["--steps", "3"], 2, "no flag --steps"),
    ],
)
def test_wrong_options_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert command(folder, *arguments) == code
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_folder_without_images_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["adapt", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 1
    assert str(tmp_path / "empty") in capsys.readouterr().err
    assert main(["adapt", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 1
    assert str(tmp_path / "nowhere") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--weights", "gone.pth"], 1, "no weights at gone.pth"),
        (["--backbone", "resnet18"], 2, "resnet18 is a ResNet"),
        (["--out", "{folder}/test_vit.pth/out"], 1, "--out: expected a folder, found the file"),
        (["--max-step", "3"], 2, "no flag --max-step, did you mean '--max-steps'?"),
        (["--on-error", "skp"], 2, "expected one of raise, skip, found 'skp', did you mean 'skip'?"),
    ],
)
def test_mistakes_are_found_before_any_image_is_decoded(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr(adapt, "checked_source", lambda *_: pytest.fail("decoded"))
    assert command(folder, *(word.format(folder=folder) for word in more)) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (folder / "out").exists()
