"""What may stand in ``environment.pip``, and what is said of all else."""

from __future__ import annotations

import pytest

from tritonnb.errors import SpecError
from tritonnb.requirements import local_source, requirements
from tritonnb.spec import Spec


@pytest.mark.parametrize(
    ("entry", "requirement"),
    [
        ("nltk", "nltk"),
        (" NLTK ", "nltk"),
        ("ruamel.yaml [jinja2] >= 0.18 , < 1", "ruamel-yaml[jinja2]<1,>=0.18"),
        ("tomli; python_version<'3.11'", 'tomli; python_version < "3.11"'),
        ("nltk@https://example.com/nltk-3.9.whl", "nltk@ https://example.com/nltk-3.9.whl"),
        ("https://example.com/x-1.0-py3-none-any.whl", "https://example.com/x-1.0-py3-none-any.whl"),
        ("git+https://example.com/x.git@v1", "git+https://example.com/x.git@v1"),
        ("./x-1.0-py3-none-any.whl", "/base/x-1.0-py3-none-any.whl"),
        ("x-1.0-py3-none-any.whl", "/base/x-1.0-py3-none-any.whl"),
        ("wheels/x-1.0.tar.gz", "/base/wheels/x-1.0.tar.gz"),
        ("../project[fast]", "/project[fast]"),
        (".", "/base"),
        ("/elsewhere/project", "/elsewhere/project"),
    ],
)
def test_every_form_has_one_spelling(tmp_path, entry, requirement):
    (found,) = requirements([entry], tmp_path / "base")
    assert found.replace(str(tmp_path), "").replace(" @", "@") == requirement  # packaging 26 has a space there
    assert requirements([found], tmp_path) == (found,)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("", "a requirement is empty"),
        ("nltk=3.9", "'nltk=3.9' is no requirement of pip's; did you mean 'nltk==3.9'?"),
        ("nltk spacy", "'nltk spacy' is no requirement of pip's; write it like nltk"),
        ("pip install nltk", "is no requirement of pip's; write it like nltk"),
        ("--index-url https://example.com", "is an option of pip, and only -r FILE can be given here"),
        ("-e .", "is an option of pip"),
        ("-r nothing.txt", "nothing.txt cannot be read: No such file or directory"),
        ("-r .", "cannot be read: Is a directory"),
    ],
)
def test_what_is_no_requirement_is_said_so(tmp_path, entry, said):
    with pytest.raises(SpecError) as caught:
        requirements([entry], tmp_path)
    assert said in caught.value.message


def test_a_requirements_file_stands_for_its_lines_and_their_paths_start_from_it(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "requirements.txt").write_text("# ours\nnltk \\\n  >=3.8  # a comment\n\n-r more/others.txt\n")
    (tmp_path / "more" / "others.txt").write_text("--requirement=../requirements-last.txt\n./x.whl\n")
    (tmp_path / "requirements-last.txt").write_text("NLTK>=3.8\nspacy")
    (tmp_path / "spec.yaml").write_text("models: m\nenvironment: {pip: [-r requirements.txt]}")
    found = Spec.from_file(tmp_path / "spec.yaml").environment.pip
    assert found == ("nltk>=3.8", "spacy", f"{tmp_path}/more/x.whl")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nltk=3", "requirements.txt: 'nltk=3' is no requirement"),
        ("-r requirements.txt", "requirements.txt names itself"),
        ("nltk==3 --hash=sha256:00", "hashes cannot be checked here"),
        ("-c constraints.txt", "'-c constraints.txt' is an option of pip"),
    ],
)
def test_a_requirements_file_with_anything_else_is_named(tmp_path, text, said):
    (tmp_path / "requirements.txt").write_text(text)
    with pytest.raises(SpecError) as caught:
        Spec.from_options(models="m", environment={"pip": ["-rrequirements.txt"]}, base=tmp_path)
    assert said in caught.value.message
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize(
    ("requirement", "path"),
    [
        ("/a/x.whl", "/a/x.whl"),
        ("/a/project[fast,more]", "/a/project"),
        ("file:///a/b%20c.whl", "/a/b c.whl"),
        ("x@ file:///a/x.whl", "/a/x.whl"),
        ("x[y] @ file:///a/x.whl", "/a/x.whl"),
        ("nltk", None),
        ("https://example.com/x.whl", None),
    ],
)
def test_local_files_are_known(requirement, path):
    found = local_source(requirement)
    assert (found and str(found)) == path
