"""Words and phrases of users reach the concept that they mean, and no other."""

import subprocess
import sys

import pytest
from dev.compile_words import RESOURCES, compile_words

from lhrs.errors import DataError
from lhrs.perception.phrases import edit_distance, keys_of, singular, split_words
from lhrs.perception.vocabulary import COVER, OBJECTS, SCENES, TAGS
from lhrs.perception.word_table import WordTable, word_table
from lhrs.perception.words import find_concept, read_phrase


def name_of(text):
    match = find_concept(text)
    return match and match.name


@pytest.mark.parametrize(
    ("name", "phrases"),
    [
        ("forest", ["forest", "Forests", "the woods", "woodland", "RAINFOREST", "pine forest", "timber-land", "grove"]),
        ("tree cover", ["tree", "trees", "tree canopy", "TreeCover", "tree_cover", "apple trees", "a lot of trees"]),
        ("urban area", ["urban", "city", "cities", "built-up", "BuiltUp", "town", "settlements", "an urban zone"]),
        ("residential area", ["residential", "housing", "neighborhood", "neighbourhoods", "housing estates"]),
        ("house", ["house", "houses", "homes", "cottages", "houses with gardens", "how many houses"]),
        ("agriculture", ["farmland", "farm", "agricultural", "green fields", "Farm_Land", "farming area"]),
        ("cropland", ["crops", "crop-land", "arable land", "ploughed fields", "plowed field", "cultivated area"]),
        ("water", ["water", "waters", "body of water", "bodies of water", "an area of open water", "WATER BODY"]),
        ("river", ["river", "streams", "brook", "image of a river", "water course", "a winding river"]),
        ("lake", ["lakes", "reservoirs", "mountain lake"]),
        ("road", ["street", "roads", "road network", "country lane"]),
        ("highway", ["motorway", "freeways", "Highway", "a busy motorway"]),
        ("industrial area", ["industry", "industrial zone", "industrial estates", "manufacturing"]),
        ("port", ["harbour", "harbors", "docks", "port area", "wharves"]),
        ("airplane", ["aeroplanes", "airplane", "planes", "parked aircraft"]),
        ("bare ground", ["bare land", "barren", "soil", "brown soil", "wastelands"]),
        ("grassland", ["grassland", "steppes", "prairies", "savannas"]),
        ("sports field", ["sports", "sportsfield", "playing fields", "sports ground"]),
        ("downtown", ["city center", "city centre", "town centres", "Downtown"]),
        ("vegetation", ["vegetation", "greenery", "green area", "vegetated land"]),
        ("nature", ["nature", "natural area", "wilderness"]),
        ("snow and ice", ["snow", "snow_and_ice", "Snow / ice", "glaciers"]),
    ],
)
def test_synonyms_mean_the_same(name, phrases):
    assert {phrase: name_of(phrase) for phrase in phrases} == dict.fromkeys(phrases, name)


@pytest.mark.parametrize("scene", SCENES)
def test_every_taught_class_is_found_by_its_own_name(scene):
    label = scene.split("/")[1]
    match = find_concept(label)
    assert match is not None and match.how == "word"
    weights = word_table().scene_weights[match.name]
    assert weights[scene] == max(weights.values())


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        ("baseball diamond", "baseballdiamond"),
        ("annual crops", "AnnualCrop"),
        ("sea or lake", "SeaLake"),
        ("mobile home parks", "mobilehomepark"),
        ("storage-tank", "storagetanks"),
        ("parking_lot", "ParkingLot"),
    ],
)
def test_spaces_make_no_difference(words, joined):
    assert name_of(words) == name_of(joined) is not None


@pytest.mark.parametrize("names", [COVER, TAGS, OBJECTS])
def test_everything_that_the_heads_report_can_be_asked_for(names):
    for name in names:
        match = find_concept(name)
        assert match is not None and match.is_taught, name
        assert name in {*match.concept.cover, match.concept.tag, match.concept.object}, name


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("rivr", "river"),
        ("watr", "water"),
        ("forrest", "forest"),
        ("hosue", "house"),
        ("feilds", "field"),
        ("residental area", "residential area"),
        ("argiculture", "agriculture"),
        ("baseball dimond", "baseball diamond"),
        ("swiming pool", "swimming pool"),
        ("vehicels", "vehicle"),
        ("dense vegitation", "vegetation"),
        ("tenis court", "tennis court"),
        ("harbur", "harbor"),
    ],
)
def test_typing_errors(typed, meant):
    match = find_concept(typed)
    assert match is not None and match.how == "spelling"
    assert match.name == name_of(meant)


@pytest.mark.parametrize(
    "text",
    [
        *("unicorn", "happiness", "weather", "politics", "Moscow", "yesterday", "qwertz", "", "  ", "?!", "12", "the"),
        *("beech", "peach", "glass", "steam", "book", "ford", "dessert", "waiter", "coat", "word", "bride", "cot"),
        *("magnetic field", "data stream", "think tank", "kindergarten teacher", "car insurance", "river rafting"),
        *("no water", "without trees", "forest that is not green", "plant", "cement plant", "court", "the track"),
        *("house prices", "the year the building was built", "name of the river", "population of a town", "tea"),
        "x" * 5000,
    ],
)
def test_other_words_have_no_concept(text):
    assert find_concept(text) is None


@pytest.mark.parametrize(
    "text",
    ["solar panels", "wind farm", "cattle", "cows", "open-pit mine", "greenhouses", "hospital building"],
)
def test_what_is_not_taught_is_known(text):
    match = find_concept(text)
    assert match is not None and not match.is_taught and match.concept.evidence == "none"


def test_ambiguous_words_have_meanings():
    assert set(read_phrase("plants").meanings) == {"vegetation", "power plant", "factory"}
    assert not read_phrase("plants").matches


def test_lists_and_negations():
    names = [match.name for match in read_phrase("grass, shrubs or trees").matches]
    assert names == ["grass", "shrubland", "tree cover"]
    assert find_concept("grass or trees") is None
    assert name_of("dense and sparse forest") == name_of("woods or forest") == "forest"
    assert not read_phrase("grass or unicorns").matches
    reading = read_phrase("no water")
    assert reading.negated and [match.name for match in reading.matches] == ["water"]
    assert read_phrase("non-forest").negated and not read_phrase("no unicorn").negated


def test_a_word_before_a_noun_can_change_what_it_is():
    assert name_of("wheat field") == "annual crop"
    assert name_of("football field") == "football field"
    assert find_concept("chess field") is None
    assert name_of("forest fire") == "fire"
    assert name_of("forest road") == "path"
    assert name_of("urban water") == "water"


def test_the_table_is_large():
    concepts = word_table().concepts
    phrases = {key for concept in concepts.values() for word in concept.words for key in keys_of(split_words(word))[:1]}
    assert len(concepts) >= 90 and len(phrases) >= 600


def test_every_class_is_linked():
    concepts = word_table().concepts.values()
    assert {scene for concept in concepts for scene in concept.scenes} == {*SCENES}
    assert {name for concept in concepts for name in concept.cover} == {*COVER}
    assert {concept.tag for concept in concepts} - {None} == {*TAGS}
    assert {concept.object for concept in concepts} - {None} == {*OBJECTS}


def test_broader_concepts_have_at_least_the_weights_of_narrower_ones():
    table = word_table()
    assert "urban area" in table.broader_of("house") and "house" not in table.broader_of("urban area")
    for name in table.concepts:
        for broader in table.broader_of(name):
            weights = table.scene_weights[broader]
            assert all(weights[scene] >= weight for scene, weight in table.scene_weights[name].items())


def test_the_table_is_right_and_compiled():
    compiled = (RESOURCES / "land_words.json").read_text(encoding="utf-8")
    assert compiled == compile_words(), "run python dev/compile_words.py"


LAKE = {"words": "pond", "scenes": {"eurosat/SeaLake": 1}}


@pytest.mark.parametrize(
    ("concepts", "problem"),
    [
        ({"lake": {**LAKE, "scenes": {"eurosat/Lake": 1}}}, "'eurosat/Lake', which is none of"),
        ({"lake": {**LAKE, "cover": {"wet": 1}}}, "'wet', which is none of"),
        ({"lake": {**LAKE, "tag": "lakes"}}, "'lakes', which is none of"),
        ({"lake": {**LAKE, "object": "pond"}}, "'pond', which is none of"),
        ({"lake": {**LAKE, "scenes": {"eurosat/SeaLake": 1.5}}}, "has a weight"),
        ({"lake": {**LAKE, "color": "blue"}}, "'lake' has wrong keys"),
        ({"lake": {"scenes": {"eurosat/SeaLake": 1}}}, "'lake' has wrong keys"),
        ({"lake": {**LAKE, "broader": ["sea"]}}, "'sea', which does not exist"),
        ({"lake": {**LAKE, "broader": ["sea"]}, "sea": {"words": "ocean", "evidence": "none"}}, "'sea', which is not"),
        ({"lake": {**LAKE, "broader": ["lake"]}}, "contains itself"),
        ({"lake": {**LAKE, "evidence": "none"}}, "either links"),
        ({"lake": {"words": "pond"}}, "either links"),
        ({"lake": {"words": "pond", "evidence": "some"}}, "neither none nor rest"),
        ({"lake": LAKE, "sea": {**LAKE, "words": "ponds"}}, "'ponds' is listed under 'lake' and 'sea'"),
        ({"lake": {**LAKE, "words": "Fish Pond"}}, "lower case"),
    ],
)
def test_a_wrong_table_is_refused(concepts, problem):
    with pytest.raises(DataError, match=problem):
        WordTable.from_dict({"concepts": concepts}).check()


@pytest.mark.parametrize(
    ("ambiguous", "problem"), [({"ponds": ["lake"]}, "listed under a concept"), ({"basin": ["lake", "sea"]}, "'sea'")]
)
def test_ambiguous_words_are_not_listed(ambiguous, problem):
    with pytest.raises(DataError, match=problem):
        WordTable.from_dict({"concepts": {"lake": LAKE}, "ambiguous": ambiguous}).check()


def test_tokens():
    assert split_words("AnnualCrop_2 (dense)/the farmer's field") == ["annual", "crop", "and", "the", "farmer", "field"]
    assert [
        singular(word) for word in ("cities", "beaches", "grass", "houses", "bus", "tennis", "lakes", "potatoes")
    ] == [
        *("city", "beach", "grass", "house", "bus", "tennis", "lake", "potato"),
    ]
    assert singular("prairies") == singular("prairie")


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        *[("river", "river", 0), ("rivr", "river", 1), ("rievr", "river", 1), ("hosue", "house", 1)],
        *[("lake", "rake", 1), ("forest", "frost", 2), ("abc", "xyz", 3), ("water", "watered", 2), ("", "ab", 2)],
    ],
)
def test_edit_distance(a, b, distance):
    assert edit_distance(a, b, 3) == edit_distance(b, a, 3) == distance
    assert edit_distance(a, b, 1) == min(distance, 2)


def test_words_load_nothing_large():
    modules = {"torch", "transformers", "pandas", "onnxruntime", "shapely", "yaml", "pydantic"}
    code = (
        "import sys; from lhrs.perception.words import find_concept; import lhrs.perception.score_labels;"
        f"find_concept('rivr'); print(sorted({modules} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
