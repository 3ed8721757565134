"""Words and codes as people write them, in many scripts: found, quoted, completed, excluded and marked, on both
databases."""

from unicodedata import normalize

import pytest

from kameleon.search.syntax import parse

from .conftest import Make, ids


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def decomposed(text: str) -> str:
    return normalize("NFD", text)


# language, text, and what each query marks in it
WORDS: list[tuple[str, str, dict[str, list[str]]]] = [
    ("english", "Curaçao façade", {"curacao": ["Curaçao"], "FAÇADE": ["façade"]}),
    ("english", decomposed("São Paulo Ação.pdf"), {"São": [decomposed("São")], "acao.pdf": [decomposed("Ação.pdf")]}),
    ("english", decomposed("한글문서.hwp 파일"), {"문서": [decomposed("문서")], "파일": [decomposed("파일")]}),
    ("english", "ﬀ eﬃcient oﬃce", {"efficient": ["eﬃcient"], "office": ["oﬃce"]}),
    (
        "english",
        "Ｆｕｌｌｗｉｄｔｈ １２３ ｶﾀｶﾅ",
        {"fullwidth": ["Ｆｕｌｌｗｉｄｔｈ"], "123": ["１２３"], "カタカナ": ["ｶﾀｶﾅ"]},
    ),
    ("english", "H₂SO₄ and 10⁶", {"H2SO4": ["H₂SO₄"], "10^6": ["10⁶"]}),
    ("english", "Łukasz Żółć", {"lukasz": ["Łukasz"], "zolc": ["Żółć"]}),
    ("english", "Đặng Nguyễn phở bò", {"dang": ["Đặng"], "nguyen": ["Nguyễn"], "pho bo": ["phở", "bò"]}),
    ("english", "Tromsø æther œuvre Þór", {"tromso": ["Tromsø"], "aether": ["æther"], "thor": ["Þór"]}),
    ("english", "ΑΘΗΝΑ ἀρχή σοφός", {"Αθήνα": ["ΑΘΗΝΑ"], "αρχη": ["ἀρχή"], "ΣΟΦΟΣ": ["σοφός"]}),
    ("english", "بِسْمِ اللَّهِ إسلام مدرسـة", {"بسم": ["بِسْمِ"], "الله": ["اللَّهِ"], "اسلام": ["إسلام"], "مدرسة": ["مدرسـة"]}),
    ("english", "יְרוּשָׁלַיִם עִבְרִית", {"ירושלים": ["יְרוּשָׁלַיִם"], "עברית": ["עִבְרִית"]}),
    ("english", "မြန်မာနိုင်ငံ ရန်ကုန်မြို့", {"ရန်ကုန်": ["ရန်ကုန်"], "နိုင်ငံ": ["နိုင်ငံ"]}),
    ("english", "ប្រទេសកម្ពុជា", {"កម្ពុជា": ["កម្ពុជា"]}),
    ("english", "ປະເທດລາວ", {"ລາວ": ["ລາວ"]}),
    ("english", "ประเทศไทย กรุงเทพมหานคร", {"กรุงเทพ": ["กรุงเทพ"], "ไทย": ["ไทย"]}),
    ("english", "東京タワーで寿司を食べた", {"タワー": ["タワー"], "寿司": ["寿司"], "食べ": ["食べ"]}),
    ("english", "新宿区西新宿2丁目", {"西新宿": ["西新宿"], "新宿": ["新宿", "新宿"]}),
    ("english", "서울특별시 강남구", {"강남": ["강남"], "서울": ["서울"]}),
    ("english", "機械学習とAI入門", {"AI": ["AI"], "機械学習": ["機械学習"]}),
    (
        "english",
        "Don’t O′Neill Hawaiʻi п’ять",
        {"don't": ["Don’t"], "oneill": ["O′Neill"], "hawai'i": ["Hawaiʻi"], "п'ять": ["п’ять"]},
    ),
    (
        "english",
        "Ha\u00adwaii co\u200bop\u2060er\u200date",
        {"hawaii": ["Ha\u00adwaii"], "cooperate": ["co\u200bop\u2060er\u200date"]},
    ),
    ("english", "👩‍💻 👍🏿 🇺🇸 ok", {"👍": ["👍🏿"], "👍🏻": ["👍🏿"], "🇺🇸": ["🇺🇸"], "👩‍💻": ["👩‍💻"], "💻": ["👩‍💻"]}),
    ("english", "საქართველო ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ", {"საქართველო": ["საქართველო", "ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ"]}),
    ("turkish", "IŞIK İZMİR ılıca", {"ışık": ["IŞIK"], "izmir": ["İZMİR"], "ILICA": ["ılıca"]}),
    ("german", "Größe Maß ÄPFEL", {"grösse": ["Größe"], "apfel": ["ÄPFEL"], "MASS": ["Maß"]}),
    ("norwegian", "Tromsø blåbær", {"tromsø": ["Tromsø"], "BLÅBÆR": ["blåbær"]}),
    ("french", "aujourd’hui l’été", {"aujourd'hui": ["aujourd’hui"], "ete": ["été"]}),
    ("arabic", "الْكِتَابُ الجديد", {"الكتاب": ["الْكِتَابُ"]}),
    ("hindi", "हिन्दी ज़मीन", {"हिन्दी": ["हिन्दी"], "जमीन": ["ज़मीन"]}),
]
CODES: list[tuple[str, str, dict[str, list[str]]]] = [
    ("english", "INV-2024-00123/A shipped", {"INV-2024": ["INV-2024"], "00123/A": ["00123/A"]}),
    ("english", "IBAN DE89370400440532013000", {"de89370400440532013000": ["DE89370400440532013000"]}),
    ("english", "ISBN 978-3-16-148410-0", {"9783161484100": ["978-3-16-148410-0"], "3-16": ["3-16"]}),
    ("english", "ISBN 9783161484100", {"978-3-16-148410-0": ["9783161484100"]}),
    ("english", "ISBN 0-306-40615-2 080442957X", {"0306406152": ["0-306-40615-2"], "0-8044-2957-X": ["080442957X"]}),
    (
        "english",
        "MAC 00:1A:2B:3C:4D:5E, 192.168.10.1/24",
        {"00:1a:2b:3c:4d:5e": ["00:1A:2B:3C:4D:5E"], "192.168.10.1": ["192.168.10.1"]},
    ),
    ("english", "C# F# .NET node.js", {"C#": ["C#"], "f#": ["F#"], ".net": [".NET"], "nodejs": ["node.js"]}),
    (
        "english",
        "ping @jane_doe #HelloWorld",
        {"@jane_doe": ["@jane_doe"], "doe": ["doe"], "helloworld": ["HelloWorld"]},
    ),
    ("english", "Jane.Roe+news@example.co.uk.", {"jane.roe": ["Jane.Roe"], "example.co.uk": ["example.co.uk"]}),
    (
        "english",
        "see https://sub.example.org:8080/a.html now",
        {"sub.example.org": ["sub.example.org"], "8080": ["8080"]},
    ),
    ("english", r"C:\App\app.exe /usr/lib/python3.11", {r"App\app.exe": [r"App\app.exe"], "python": ["python"]}),
    ("english", "needs >=1.2.3,<2.0.0 or ^6.7", {"1.2.3": ["1.2.3"], "2.0.0": ["2.0.0"], "6.7": ["6.7"]}),
    ("english", "2TB SSD, 16 GB, 100km/h", {"2 TB": ["2TB"], "16GB": ["16 GB"], "100 km/h": ["100km/h"]}),
    ("english", "550e8400-e29b-41d4-a716-446655440000", {"550e8400": ["550e8400"], "e29b-41d4": ["e29b-41d4"]}),
    (
        "english",
        "1,234.56 B2B R&D 24/7 X-ray",
        {"1,234.56": ["1,234.56"], "b2b": ["B2B"], "r&d": ["R&D"], "xray": ["X-ray"]},
    ),
    ("english", "on 2024-01-15 at 08:30", {"2024-01": ["2024-01"], "08:30": ["08:30"]}),
    (
        "english",
        "CVE-2021-44228 HTTP/1.1 UTF-8",
        {"2021-44228": ["2021-44228"], "http/1.1": ["HTTP/1.1"], "utf8": ["UTF-8"]},
    ),
    ("english", "747-400 A320neo RTX4090", {"747": ["747"], "a320neo": ["A320neo"], "rtx": ["RTX"]}),
]
LANGUAGES = sorted({language for language, *_ in WORDS})


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_written_otherwise_is_found_quoted_excluded_and_marked(make: Make, language: str) -> None:
    search = make(language=language)
    texts = {str(n): (text, queries) for n, (of, text, queries) in enumerate(WORDS + CODES) if of == language}
    search.index_records_batch([("T", id_, f"{text} alpha") for id_, (text, _) in texts.items()])
    assert texts
    for id_, (text, queries) in texts.items():
        for query, marked in queries.items():
            hits = search.search(query, mode="keyword", highlight=True, limit=100)
            spans = {hit.id: [hit.matched_text[start:end] for start, end in hit.spans] for hit in hits}
            assert spans.get(id_) == marked, (query, text)
            assert id_ in ids(search.search(f'"{query}"', mode="keyword", limit=100)), (query, text)
            if any(map(str.isalnum, query)):
                assert id_ not in ids(search.search(f'alpha -"{query}"', mode="keyword", limit=100)), (query, text)


@pytest.mark.parametrize(
    ("text", "prefixes"),
    [
        ("le téléphone İstanbul Zürich", ["télé", "TELE", "istan", "İst", "zür", "zur"]),
        ("ἄνθρωπος ΟΔΟΣ ёжик", ["ανθ", "άνθ", "οδό", "еж", "ЁЖ"]),
        ("Nguyễn Đà Łódź Þingvellir Straße", ["ngu", "nguyễ", "lod", "łód", "thing", "þing", "STRAS", "straß"]),
        (decomposed("José Ramírez"), ["jos", "josé", "rami", decomposed("ramí")]),
        ("POL-358-A v1.2.3 9,030,100 978-3-16-148410-0", ["POL-3", "pol358", "1.2", "9030", "978316", "978-3-1"]),
        ("Wi-Fi node.js App.java #12345 @jane", ["wif", "wi-f", "nodej", "App.ja", "#123", "@ja"]),
    ],
)
def test_a_prefix_is_read_as_words_are(make: Make, text: str, prefixes: list[str]) -> None:
    search = make()
    search.index_records_batch([("T", "1", text), ("T", "2", "other words")])
    for prefix in prefixes:
        (hit,) = search.search(f"{prefix}*", mode="keyword", highlight=True)
        assert hit.id == "1", prefix
        assert hit.spans, prefix


@pytest.mark.parametrize(
    ("language", "exact", "other"),
    [
        ("english", "résumé", "resume"),
        ("english", "Straße", "Strasse"),
        ("english", "organization", "organ"),
        ("english", "Müller", "Muller"),
        ("german", "Häuser", "Haus"),
        ("french", "pêche", "péché"),
        ("spanish", "papa", "papá"),
        ("russian", "ёлка", "елка"),
        ("greek", "νόμος", "νομός"),
        ("portuguese", "avó", "avô"),
        ("arabic", "أحمد", "احمد"),
    ],
)
def test_the_exact_form_comes_first(make: Make, language: str, exact: str, other: str) -> None:
    search = make(language=language)
    search.index_records_batch([("T", "1", f"{other} 7"), ("T", "2", f"{exact} 7"), ("T", "3", f"{other} 7")])
    assert ids(search.search(exact, mode="keyword"))[:1] == ["2"]
    assert ids(search.search(other, mode="keyword"))[:1] == ["1"]


COMMANDS = [
    *("grep -rn pattern src", "rsync -avz source dest", "curl -fsSL https://example.com/install.sh", "ls -la /tmp"),
    *("docker run -it --rm ubuntu bash", "kubectl get pods -n kube-system", "git commit -am message"),
    *("find . -name file -type f -delete", "java -jar app.jar -Xmx512m", "pip install -U requests", "make -j4 all"),
    *("psql -U postgres -d mydb", "mysqldump -uroot -psecret mydb", "awk -F: '{print}' file", "cp -avr src dest"),
    *("ffmpeg -i in.mp4 -vf scale=320:240 out.gif", "go test -run TestFoo ./...", "systemctl status -l nginx"),
]


def test_pasted_commands_are_found(make: Make) -> None:
    search = make()
    search.index_records_batch([("T", command, command) for command in COMMANDS])
    for command in COMMANDS:
        assert ids(search.search(command, mode="keyword"))[:1] == [command]
        assert parse(command).excluded == ()


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("jaguar -CARS", ["2", "3"]),
        ("jaguar -cafe", ["1", "2"]),
        ("laptop -pol-358-a", ["5"]),
        ("laptop -example.org", ["4"]),
        ("code -C++", ["7"]),
        ("code -c#", ["6"]),
        ("東京 -京都", ["9"]),
        ("router -wifi", ["12"]),
        ("router -wi-fi", ["12"]),
        ('router -"wi-fi"', ["12"]),
        ("-jungle jaguar -car", ["3"]),
    ],
)
def test_words_and_codes_are_excluded_however_they_are_written(make: Make, query: str, left: list[str]) -> None:
    texts = ["jaguar car", "jaguar cat jungle", "Jaguar café", "laptop POL-358-A", "laptop example.org", "C++ code"]
    texts += ["C# code", "東京 京都", "東京 大阪", "wi-fi router", "wifi cable router", "router lan"]
    search = make()
    search.index_records_batch([("T", str(n), text) for n, text in enumerate(texts, 1)])
    assert sorted(ids(search.search(query, mode="keyword"))) == left
