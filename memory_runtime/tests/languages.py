"""Memories and questions in many languages: each question's answer is the first memory of its language."""

from __future__ import annotations

from typing import Final, NamedTuple


class Asked(NamedTuple):
    """Three memories of one language, a question that the first answers, and words that stand in the first alone, as
    somebody might type them.
    """

    memories: tuple[str, str, str]
    question: str
    words: tuple[str, ...]


LANGUAGES: Final = {
    "German": Asked(
        (
            "Anna hat im Frühling eine Katze aus der Straße am Fluss adoptiert.",
            "Wann hat der Bäcker die Tür geöffnet und wo war der Schlüssel?",
            "Der Zug nach Köln war schon wieder zu spät.",
        ),
        "Wann hat Anna die Katze adoptiert?",
        ("Straße", "STRASSE", "strasse", "Fru\u0308hling", "FRÜHLING", "fruhling"),
    ),
    "French": Asked(
        (
            "Élise a fêté son anniversaire à la crêperie.",
            "Qui est-ce qui a laissé la fenêtre de la cuisine ouverte ?",
            "Où est-ce que le chien a caché les chaussures ?",
        ),
        "Où est-ce qu'Élise a fêté l'anniversaire ?",
        ("ELISE", "e\u0301lise", "crêperie", "creperie", "fete"),
    ),
    "Spanish": Asked(
        (
            "El niño encontró un pingüino en la montaña.",
            "¿Dónde está la llave de la casa y quién la tiene?",
            "¿Qué es lo que se vende en el mercado?",
        ),
        "¿Qué es lo que encontró el niño en la montaña?",
        ("NIÑO", "nin\u0303o", "pinguino", "montaña"),
    ),
    "Turkish": Asked(
        (
            "Işıl İstanbul'da küçük bir kitapçı açtı.",
            "Bu ne zaman ve nerede oldu, kim bilir?",
            "Ankara'da hava bugün çok soğuk.",
        ),
        "Işıl ne zaman kitapçı açtı?",
        ("istanbul", "İSTANBUL", "ISTANBUL", "ışıl", "IŞIL", "kitapci"),
    ),
    "Greek": Asked(
        (
            "Ο Οδυσσεύς αγόρασε ένα ποδήλατο.",
            "Πότε και πού ήταν η γιορτή της θείας;",
            "Το τρένο για την Αθήνα είχε καθυστέρηση.",
        ),
        "Πότε ο Οδυσσεύς αγόρασε το ποδήλατο;",
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς", "ποδηλατο", "ΠΟΔΉΛΑΤΟ"),
    ),
    "Russian": Asked(
        (
            "Пётр починил ёлочную гирлянду.",
            "Где и когда это было, кто из вас знает?",
            "Поезд в Москву опять опоздал.",
        ),
        "Когда Пётр починил гирлянду?",
        ("ПЕТР", "петр", "Пётр", "елочную", "ГИРЛЯНДУ"),
    ),
    "Ukrainian": Asked(
        (
            "Їжак знайшов ґудзик під яблунею.",
            "Де і коли це було, хто з вас знає?",
            "Потяг до Києва знову запізнився.",
        ),
        "Де їжак знайшов ґудзик?",
        ("ЇЖАК", "їжак", "ґудзик"),
    ),
    "Arabic": Asked(
        (
            "اشترت مريم دَرّاجةً زرقاء سنة ٢٠٢١.",
            "متى كان هذا وأين ومن الذي يعرف؟",
            "تأخر القطار إلى القاهرة مرة أخرى.",
        ),
        "متى اشترت مريم الدراجة أو دراجة زرقاء؟",
        ("دراجة", "دَرَّاجَة", "2021", "٢٠٢١", "مريم"),
    ),
    "Persian": Asked(
        (
            "او می‌خواهد کتاب تازه را بخرد.",
            "این کی و کجا بود و چه کسی می داند؟",
            "قطار تهران باز هم دیر رسید.",
        ),
        "کتاب تازه را کی می‌خواهد؟",
        ("کتاب", "كتاب", "می‌خواهد", "میخواهد"),
    ),
    "Hebrew": Asked(
        (
            "דנה אימצה חָתוּל מהרחוב.",
            "מתי זה היה ואיפה ומי יודע?",
            "הרכבת לחיפה איחרה שוב.",
        ),
        "מתי דנה אימצה חתול?",
        ("חתול", "חָתוּל", "דנה"),
    ),
    "Hindi": Asked(
        (
            "मीरा ने बाज़ार से हरी किताब खरीदी।",
            "यह कब और कहाँ हुआ और किसने देखा?",
            "दिल्ली की रेल फिर देर से आई।",
        ),
        "मीरा ने किताब कब खरीदी?",
        ("किताब", "बाजार", "बाज़ार", "मीरा"),
    ),
    "Chinese": Asked(
        (
            "小明昨天在车站旁边吃了一碗拉面。",
            "这是什么时候的事情，谁知道？",
            "去上海的火车又晚点了。",
        ),
        "谁吃了拉面？",
        ("拉面", "车站", "小明", "面"),
    ),
    "Japanese": Asked(
        (
            "花子は駅前でガラスの花瓶を買いました。",
            "それはいつ、どこで、だれがしましたか。",
            "大阪行きの電車はまた遅れました。",
        ),
        "花子は何の花瓶を買いましたか？",
        ("花瓶", "ガラス", "ｶﾞﾗｽ", "花子", "駅前"),
    ),
    "Korean": Asked(
        (
            "민수는 서울에서 고양이를 입양했습니다.",
            "이것은 언제 어디에서 누가 했습니까?",
            "부산으로 가는 기차가 또 늦었습니다.",
        ),
        "민수는 언제 고양이를 입양했습니까?",
        ("서울", "고양이", "민수", "입양"),
    ),
    "Thai": Asked(
        (
            "มาลีซื้อร่มสีแดงที่ตลาดน้ำ",
            "เมื่อไหร่และที่ไหน ใครเป็นคนทำ",
            "รถไฟไปเชียงใหม่ล่าช้าอีกแล้ว",
        ),
        "มาลีซื้อร่มสีอะไร",
        ("ร่มสีแดง", "ตลาดน้ำ", "มาลี"),
    ),
    "Lao": Asked(
        ("ນ້ອຍຊື້ປຶ້ມຢູ່ຕະຫຼາດ", "ໃຜຮູ້ວ່າເມື່ອໃດ", "ລົດໄຟໄປວຽງຈັນຊ້າ"),
        "ນ້ອຍຊື້ປຶ້ມ",
        ("ປຶ້ມ", "ຕະຫຼາດ"),
    ),
    "Khmer": Asked(
        ("សុខាបានទិញសៀវភៅនៅផ្សារ", "តើនរណាដឹងថានៅពេលណា", "រថភ្លើងយឺតម្តងទៀត"),
        "សុខាទិញសៀវភៅ",
        ("សៀវភៅ", "ផ្សារ"),
    ),
    "Burmese": Asked(
        ("မေက စာအုပ်အနီကို ဈေးမှာ ဝယ်ခဲ့တယ်", "ဘယ်သူ ဘယ်တော့ သိလဲ", "ရထား နောက်ကျပြန်ပြီ"),
        "မေ စာအုပ် ဝယ်",
        ("စာအုပ်", "ဈေး"),
    ),
    "Vietnamese": Asked(
        (
            "Hương mua một chiếc xe đạp màu đỏ ở Đà Nẵng.",
            "Khi nào và ở đâu thì ai là người biết điều này?",
            "Tàu đi Huế lại trễ giờ.",
        ),
        "Hương mua xe đạp khi nào?",
        ("Đà Nẵng", "da nang", "ĐÀ NẴNG", "xe đạp"),
    ),
    "Polish": Asked(
        (
            "Łukasz kupił żółty rower w Łodzi.",
            "Kiedy i gdzie to było, kto z was wie?",
            "Pociąg do Krakowa znowu się spóźnił.",
        ),
        "Kiedy Łukasz kupił rower?",
        ("Łodzi", "lukasz", "ŁUKASZ", "zolty"),
    ),
}
