"""Token estimates against published counts of o200k_base, the vocabulary of current OpenAI models."""

import time

import pytest

from parley.agents.clients.port import ModelRequest
from parley.agents.counting import count_message, count_offers, count_request, count_text, cut_text

# From OpenAI's announcement of o200k_base (one greeting in 20 languages), its tokenizer page and its cookbook.
PUBLISHED = {
    "હેલો, મારું નામ જીપીટી-4o છે. હું એક નવા પ્રકારનું ભાષા મોડલ છું. તમને મળીને સારું લાગ્યું!": 33,
    "నమస్కారము, నా పేరు జీపీటీ-4o. నేను ఒక్క కొత్త రకమైన భాషా మోడల్ ని. మిమ్మల్ని కలిసినందుకు సంతోషం!": 45,
    "வணக்கம், என் பெயர் ஜிபிடி-4o. நான் ஒரு புதிய வகை மொழி மாடல். உங்களை சந்தித்ததில் மகிழ்ச்சி!": 35,
    "नमस्कार, माझे नाव जीपीटी-4o आहे| मी एक नवीन प्रकारची भाषा मॉडेल आहे| तुम्हाला भेटून आनंद झाला!": 33,
    "नमस्ते, मेरा नाम जीपीटी-4o है। मैं एक नए प्रकार का भाषा मॉडल हूँ। आपसे मिलकर अच्छा लगा!": 31,
    "ہیلو، میرا نام جی پی ٹی-4o ہے۔ میں ایک نئے قسم کا زبان ماڈل ہوں، آپ سے مل کر اچھا لگا!": 33,
    "مرحبًا، اسمي جي بي تي-4o. أنا نوع جديد من نموذج اللغة، سررت بلقائك!": 26,
    "سلام، اسم من جی پی تی-۴او است. من یک نوع جدیدی از مدل زبانی هستم، از ملاقات شما خوشبختم!": 32,
    "Привет, меня зовут GPT-4o. Я — новая языковая модель, приятно познакомиться!": 23,
    "안녕하세요, 제 이름은 GPT-4o입니다. 저는 새로운 유형의 언어 모델입니다, 만나서 반갑습니다!": 27,
    "Xin chào, tên tôi là GPT-4o. Tôi là một loại mô hình ngôn ngữ mới, rất vui được gặp bạn!": 30,
    "你好，我的名字是GPT-4o。我是一种新型的语言模型，很高兴见到你!": 24,
    "こんにちは、私の名前はGPT-4oです。私は新しいタイプの言語モデルです。初めまして！": 26,
    "Merhaba, benim adım GPT-4o. Ben yeni bir dil modeli türüyüm, tanıştığımıza memnun oldum!": 30,
    "Ciao, mi chiamo GPT-4o. Sono un nuovo tipo di modello linguistico, piacere di conoscerti!": 28,
    "Hallo, mein Name is GPT-4o. Ich bin ein neues KI-Sprachmodell. Es ist schön, dich kennenzulernen.": 29,
    "Hola, me llamo GPT-4o. Soy un nuevo tipo de modelo de lenguaje, ¡es un placer conocerte!": 26,
    "Olá, meu nome é GPT-4o. Sou um novo tipo de modelo de linguagem, é um prazer conhecê-lo!": 27,
    "Bonjour, je m'appelle GPT-4o. Je suis un nouveau type de modèle de langage, c'est un plaisir de vous "
    "rencontrer!": 28,
    "Hello, my name is GPT-4o. I'm a new type of language model, it's nice to meet you!": 24,
    "Many words map to one token, but some don't: indivisible.\n\nUnicode characters like emojis may be split into "
    "many tokens containing the underlying bytes: 🤚🏾\n\nSequences of characters commonly found next to each other "
    "may be grouped together: 1234567890": 53,
    "2 + 2 = 4": 7,
    "お誕生日おめでとう": 8,
    "The quick brown fox jumps over the lazy dog.": 10,
    "Hello, world! How are you today?": 9,
}


def test_the_error_is_what_the_module_says() -> None:
    errors = {text: (count_text(text) - exact) / exact for text, exact in PUBLISHED.items()}
    mean = sum(map(abs, errors.values())) / len(errors)
    overall = sum(map(count_text, PUBLISHED)) / sum(PUBLISHED.values()) - 1
    print(f"mean {mean:.1%}, {min(errors.values()):.0%} to {max(errors.values()):.0%}, overall {overall:+.0%}")

    assert mean < 0.20
    assert min(errors.values()) > -0.30
    assert max(errors.values()) < 0.65
    assert 0.05 < overall < 0.20


def test_english_prose_is_a_little_over() -> None:
    # A published count over 6 million characters of English says 4.38 a token.
    prose = "The parcel is picked up at your door, and the money is back on your card within five working days. " * 50

    assert 1.0 < count_text(prose) / (len(prose) / 4.38) < 1.25


def test_nothing_costs_nothing_and_a_message_costs_its_frame_and_its_calls() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"query": "jacket"}'}}

    assert count_text("") == 0
    assert count_message({"role": "assistant", "content": None}) == 4
    assert count_message({"role": "assistant", "content": "", "tool_calls": [call]}) > 12
    assert count_offers([]) == 0
    assert count_request(ModelRequest("m", [{"role": "user", "content": "Hello"}], [{"type": "function"}])) > 8


def test_a_lone_surrogate_is_counted_and_no_fault() -> None:
    assert count_text("a\ud800b") > 0


def test_a_megabyte_does_not_hold_the_loop() -> None:
    text = "größer, 100 % " * 80_000
    began = time.thread_time()

    count_text(text)

    assert time.thread_time() - began < 0.05


@pytest.mark.parametrize("text", ["word " * 5_000, "你好" * 5_000, "a" * 5_000 + "🤚🏾" * 2_000, "1" * 20_000])
@pytest.mark.parametrize("tokens", [40, 300, 1_000])
def test_a_cut_text_fits_and_keeps_its_beginning_and_its_end(text: str, tokens: int) -> None:
    cut = cut_text(text, tokens, " [cut] ")

    assert count_text(cut) <= tokens
    assert cut.startswith(text[:5])
    assert cut.endswith(text[-3:])
    assert " [cut] " in cut


def test_what_fits_is_not_touched_and_what_never_fits_is_the_note() -> None:
    assert cut_text("short", 100, "[cut]") == "short"
    assert cut_text("word " * 100, 0, "[cut]") == "[cut]"
