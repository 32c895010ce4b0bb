"""The four services as a plant would run them: TLS on both sides, tokens, tenants; a job with a token of its own."""

import json

import numpy as np
import pytest

import mekiki
from mekiki import errors
from tests.running import running_services
from tests.runtime.identities import Authority, bearer, write_tokens

SECRETS = {name: f"s3cret-of-{name}-3f9a" for name in ("eva", "lina", "boris", "job")}
pytestmark = pytest.mark.xdist_group("locked-house")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    authority = Authority()
    ca, pair = authority.write(folder / "ca.crt"), authority.issue(folder, "mekiki", hosts=["mekiki.plant"])
    tokens = write_tokens(
        folder / "tokens.json",
        (SECRETS["eva"], ["engineer"], "plant-a"),
        (SECRETS["lina"], ["line"], "plant-a"),
        (SECRETS["boris"], ["admin"], "plant-b"),
        (SECRETS["job"], ["engineer"], None, True),
    )
    tokens.write_text(tokens.read_text().replace("s3cret-of-", "").replace("-3f9a-subject", ""))
    (folder / "job-token").write_text(SECRETS["job"])
    environment = {
        "MEKIKI_TLS_CERT": pair.cert,
        "MEKIKI_TLS_KEY": pair.key,
        "MEKIKI_TLS_CLIENT_CA": ca,
        "MEKIKI_TLS_SERVER_NAME": "mekiki.plant",
        "MEKIKI_AUTH_TOKENS": tokens,
        "MEKIKI_SERVICE_TOKEN_FILE": folder / "job-token",
        "MEKIKI_LOG_LEVEL": "debug",
        "MEKIKI_DEVICE": "cpu",
        "MEKIKI_RATE_LIMIT_PER_S": "1000",
    }
    with running_services(folder, {name: str(value) for name, value in environment.items()}) as running:

        def enter(name):
            credentials = mekiki.Credentials(
                ca=ca, cert=pair.cert, key=pair.key, server_name="mekiki.plant", token=SECRETS.get(name, "")
            )
            return mekiki.Client(running.address, options=mekiki.ClientOptions(credentials=credentials))

        yield running.address, enter, folder / "services.log"


def draw(number, bright):
    image = np.full((32, 32), 20, np.uint8)
    image[8 + number % 4 : 20, 8:24] = 220 if bright else 90
    return image


@pytest.fixture(scope="module")
def trained(house):
    """Eva's data set and classifier, made by a job that reads from codec with its own token."""
    with house[1]("eva") as eva:
        eva.codec.create_dataset("plant-a.parts")
        items = [
            mekiki.NewItem(str(number), draw(number, bright=bool(number % 2)), labels=[("dark", "bright")[number % 2]])
            for number in range(12)
        ]
        assert all(answer.error is None for answer in eva.codec.append_items("plant-a.parts", items))
        operation = eva.saliency.train_classifier("plant-a.kinds", "plant-a.parts", backbone="small", epochs=1)
        assert operation.result(300).name == "plant-a.kinds"
    return "plant-a.kinds"


def test_a_line_classifies_and_does_not_read_the_data_set_through_it(house, trained):
    with house[1]("lina") as lina:
        assert lina.saliency.classify_image(trained, draw(1, bright=True)).labels
        with pytest.raises(errors.PermissionDenied, match="ReadItems needs the role engineer"):
            lina.saliency.classify_image(trained, mekiki.ItemRef("plant-a.parts", "1"))
        with pytest.raises(errors.PermissionDenied, match="needs the role admin"):
            lina.saliency.delete_classifier(trained)


def test_an_engineers_token_goes_down_the_chain_from_boxfit_to_saliency_to_codec(house, trained):
    with house[1]("eva") as eva:
        annotated = eva.boxfit.annotate_image(trained, mekiki.ItemRef("plant-a.parts", "1"))
        assert annotated.model.name == trained


def test_another_plant_sees_nothing_of_it(house, trained):
    with house[1]("boris") as boris:
        assert boris.codec.list_datasets() == boris.saliency.list_classifiers() == ()
        assert boris.operations.list_operations("saliency") == ()
        told = set()
        for name in (trained, "plant-a.absent"):
            with pytest.raises(errors.PermissionDenied) as caught:
                boris.saliency.classify_image(name, draw(1, bright=True))
            told.add(caught.value.message)
        assert len(told) == 1
        assert [a.error.reason for a in boris.codec.append_items("plant-a.parts", [mekiki.NewItem("x", b"x")])] == [
            "TENANT"
        ]


def test_nobody_comes_in_without_a_token_or_a_certificate(house):
    address, enter, _ = house
    with enter("nobody") as nobody, pytest.raises(errors.Unauthenticated):
        nobody.codec.list_datasets()
    impatient = mekiki.ClientOptions(
        retry=mekiki.RetryPolicy(attempts=1), credentials=mekiki.Credentials(token=SECRETS["eva"])
    )
    with mekiki.Client(address, options=impatient) as plain, pytest.raises(errors.Unavailable):
        plain.codec.list_datasets()


def test_the_log_tells_who_changed_what_and_no_secret(house, trained):
    log = house[2].read_text()
    lines = [json.loads(line) for line in log.splitlines() if '"event": "audit"' in line]
    told = {(line["subject"], line["rpc"].split("/")[-1], line["outcome"]) for line in lines}
    assert {("eva", "CreateDataset", "OK"), ("eva", "TrainClassifier", "OK"), ("eva", "AppendItems", "OK")} <= told
    assert {line["certificate"] for line in lines} == {"mekiki"}
    assert '"event": "call"' in log
    assert [name for name, secret in SECRETS.items() if secret in log or bearer(secret)[0][1] in log] == []
    assert "s3cret" not in log
    assert "PRIVATE KEY" not in log
