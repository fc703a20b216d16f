"""The demo's texts are what they promise, and the shipped weights do what docs/demo.md says."""

import itertools
import json
import re
import subprocess
import sys

import pytest
import torch

from backend.demo import DICTIONARIES, MODEL, WEIGHTS, demo_documents, task_prompts
from backend.demo.demo_texts import PIECE_CHARS, DemoDocument, generate_story, stdlib_documents
from backend.demo.dictionary_plans import DICTIONARY_PLANS
from backend.demo.story_templates import HELD_OUT_TEMPLATES, TRAIN_TEMPLATES
from backend.demo.task_generators import TASKS, single_token_words

BELOW_THE_BAR = {"pronoun"}
"""Tasks that the shipped model answers in less than 90 % (docs/demo.md says how often)."""
PLAN_OF = {plan.name: plan for plans in DICTIONARY_PLANS.values() for plan in plans}


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(MODEL).eval()


@pytest.fixture(scope="module")
def stories() -> str:
    return "\n\n".join(generate_story(0, i)[0] for i in range(4000))


def seen(template: str, text: str) -> bool:
    """Whether `text` holds an instance of `template`, whatever stands in its slots."""
    pattern = re.escape(template.split("|")[0])
    pattern = re.sub(r"\\\{(seq|part)\\\}", r"[a-zA-Z ]+?", pattern)
    pattern = re.sub(r"\\\{[^}]*\\\}", r"[^\\s.,]+(?: [^\\s.,]+)?", pattern)
    return re.search(re.sub(r"\b([Aa])\\ ", r"\1n?\\ ", pattern), text) is not None


def test_documents_are_the_same_every_time():
    first = list(demo_documents(documents=60))
    assert first == list(demo_documents(documents=60))
    assert first == list(itertools.islice(demo_documents(), 60))


def test_documents_have_ids_of_their_own_and_another_seed_other_stories():
    first, other = list(demo_documents(documents=60)), list(demo_documents(seed=7, documents=60))
    assert len({document.id for document in first}) == 60
    assert not {d.text for d in first if d.template} & {d.text for d in other}


def test_every_fourth_document_is_a_piece_of_the_standard_library():
    documents = list(demo_documents(documents=40))
    assert [d for d in documents if d.template is None] == documents[3::4]
    assert documents[3::4] == list(itertools.islice(stdlib_documents(), 10))
    assert max(len(d.text) for d in documents[3::4]) <= PIECE_CHARS


def test_a_story_holds_only_the_template_that_it_names(stories: str):
    for i in range(200):
        text, template = generate_story(0, i)
        task, number = template.split("/")
        assert seen(TRAIN_TEMPLATES[task][int(number)], text)


@pytest.mark.parametrize("task", TASKS)
def test_held_out_templates_never_appear_in_training_text(task: str, stories: str):
    assert all(seen(template, stories) for template in TRAIN_TEMPLATES[task])
    assert not any(seen(template, stories) for template in HELD_OUT_TEMPLATES[task])


@pytest.mark.parametrize("task", TASKS)
def test_prompts_are_the_same_every_time(task: str):
    prompts = list(task_prompts(task, "held_out", 20, seed=3))
    assert prompts == list(task_prompts(task, "held_out", 20, seed=3))
    assert prompts != list(task_prompts(task, "held_out", 20, seed=4))
    assert all(prompt.answer != prompt.wrong for prompt in prompts)


@pytest.mark.parametrize("split", ["train", "held_out"])
@pytest.mark.parametrize("task", TASKS)
def test_answers_are_single_tokens(task: str, split: str, tokenizer):
    for prompt in task_prompts(task, split, 50, seed=3):
        before = tokenizer(prompt.prompt)["input_ids"]
        for word in (prompt.answer, prompt.wrong):
            assert tokenizer(prompt.prompt + word)["input_ids"][:-1] == before


def test_names_years_and_arguments_are_single_tokens(tokenizer):
    for word in single_token_words():
        assert len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1


def test_texts_survive_the_tokenizer(tokenizer):
    for document in demo_documents(documents=40):
        ids = tokenizer(document.text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids[1:]) == document.text


@pytest.mark.parametrize("task", TASKS)
def test_the_model_knows_the_answers_on_held_out_templates(task: str, model, tokenizer):
    from backend.demo.demo_evaluation import measure_accuracy

    prompts = list(task_prompts(task, "held_out", 80, seed=5))
    assert measure_accuracy(model, tokenizer, prompts).pair >= (
        0.75 if task in BELOW_THE_BAR else 0.87
    )


@pytest.mark.parametrize("folder", DICTIONARIES, ids=lambda folder: folder.name)
def test_dictionaries_load_with_sae_lens(folder, model):
    from sae_lens import SAE

    sae, plan = SAE.load_from_disk(folder), PLAN_OF[folder.name]
    assert sae.cfg.metadata.hook_name == plan.hook
    assert sae.cfg.metadata.hook_name_out == plan.hook_out
    assert (sae.cfg.metadata.prepend_bos, sae.cfg.metadata.exclude_special_tokens) == (True, True)
    assert (sae.cfg.reshape_activations == "hook_z") == plan.hook.endswith("hook_z")
    assert sae.W_dec.shape == (plan.d_sae, model.config.hidden_size)
    assert sae.cfg.metadata.l0 == pytest.approx(plan.k, rel=0.5 if plan.is_transcoder else 1e-3)


@pytest.mark.parametrize("layer", range(3))
@torch.inference_mode()
def test_residual_dictionaries_explain_fresh_text(layer: int, model, tokenizer):
    from sae_lens import SAE

    sae = SAE.load_from_disk(WEIGHTS / f"resid-{layer}")
    rows = []
    for i in range(30):
        ids = tokenizer(generate_story(11, i)[0], return_tensors="pt")["input_ids"]
        # Hugging Face's hidden state L + 1 is what leaves block L; BOS is left out.
        rows.append(model(ids, output_hidden_states=True).hidden_states[layer + 1][0, 1:])
    x = torch.cat(rows)
    left = (x - sae(x)).pow(2).sum() / (x - x.mean(0)).pow(2).sum()
    assert 1 - left >= 0.8


def test_figures_meet_the_bars():
    figures = json.loads((WEIGHTS / "figures.json").read_text())
    assert set(figures["tasks"]) == set(TASKS)
    assert {task for task, row in figures["tasks"].items() if row["pair"] < 0.9} <= BELOW_THE_BAR
    for name in (folder.name for folder in DICTIONARIES if "resid" in folder.name):
        row = figures["dictionaries"][name]
        assert row["explained_variance"] >= 0.8
        assert row["recovered_mean"] >= 0.9
        assert row["delta_ce"] <= 0.25
        assert row["dead"] < 0.1


def test_batch_top_k_keeps_the_largest_of_the_whole_batch():
    from backend.demo.transcoder_trainer import batch_top_k

    acts = torch.rand(6, 10, generator=torch.Generator().manual_seed(0))
    kept, smallest = batch_top_k(acts, k=3)
    assert int((kept > 0).sum()) == 18
    assert smallest == float(kept[kept > 0].min()) > float(acts[kept == 0].max())


def test_row_batches_use_every_row_once_per_round():
    from backend.demo.activations import shuffled_row_batches

    rounds = list(itertools.islice(shuffled_row_batches(12, 4, seed=0), 6))
    first, second = torch.cat(rounds[:3]), torch.cat(rounds[3:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(12))
    assert first.tolist() != second.tolist()


@pytest.mark.process
def test_the_texts_are_light():
    code = "import sys, backend.demo as d; next(d.demo_documents()); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_document_names_its_template():
    assert isinstance(next(demo_documents()), DemoDocument)
    templates = {document.template for document in demo_documents(documents=400)}
    assert templates <= {
        f"{task}/{i}" for task in TASKS for i in range(len(TRAIN_TEMPLATES[task]))
    } | {None}
