"""Words that say how a sentence is built, not what it is about: articles, prepositions, pronouns, auxiliaries and
question words, by language.

The lists are short on purpose, and our own: the packages of stop words list content words too (`computer`, `Haus`), and
are wrongly encoded in places. Which list holds for a text is told by its own words; English where nothing tells.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from memory_runtime.model.words import terms

# With the remains of contractions: "don't" is "don" and "t" to the index
_ENGLISH: Final = """
    a about above after again against all also am an and any are aren as at be because been before being below between
    both but by can cannot could couldn did didn do does doesn doing don down during each few for from further
    had hadn
    has hasn have haven having he her here hers herself him himself his how i if in into is isn it its itself just let
    me more most my myself no nor not of off on once only or other ought our ours ourselves out over own same shan she
    should shouldn so some such than that the their theirs them themselves then there these they this those through to
    too under until up very was wasn we were weren what when where which while who whom whose why will with won would
    wouldn you your yours yourself yourselves d ll m re s t ve
"""
_LATIN: Final = {
    "de": """
    aber alle allem allen aller alles als also am an auch auf aus bei beim bin bis bist da dabei damit dann
    das dass daß
    dein deine deinem deinen deiner dem den denen denn der deren des dessen dich die dies diese diesem diesen dieser
    dieses dir doch dort du durch ein eine einem einen einer eines er es etwa euch euer eure für gab gegen
    gewesen habe
    haben hat hatte hatten hattest hier hin ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in ins ist ja jede jedem
    jeden jeder jedes kann kannst kein keine keinem keinen keiner konnte können man mein meine meinem meinen
    meiner mich
    mir mit muss müssen nach nicht noch nun nur ob oder ohne schon sehr sein seine seinem seinen seiner seit sich sie
    sind so soll sollte sondern über um und uns unser unsere unter vom von vor wann war waren warst warum was weil
    welche welchem welchen welcher welches wem wen wenn wer werde werden weshalb wessen wie wieso wieviel will
    wir wird
    wo woher wohin wohl womit worden worin worüber wovon wozu wurde wurden würde zu zum zur zwischen
    """,
    "fr": """
    à ai as au aucun aussi autre aux avait avaient avec avez avons ayant c ça ce cela ces cet cette ceux chez ci comme
    comment d dans de depuis des donc dont du elle elles en entre es est et étaient était étant être eu eux fait
    faut il ils j je l la là laquelle le lequel les lesquels leur leurs lui m ma mais me même mes moi mon n ne ni non
    nos notre nous on ont ou où par pas pendant pour pourquoi qu quand que quel quelle quelles quels qui quoi
    s sa sans
    se sera ses si son sont sous sur t ta te tes toi ton tous tout toute très tu un une vers vos votre vous y
    """,
    "es": """
    a adónde al algo alguna algunas alguno algunos ante antes así aunque cada como cómo con contra cual cuál cuáles
    cuando cuándo cuánta cuántas cuánto cuántos cuyo de del desde donde dónde durante e el él ella ellas ellos
    en entre
    era eran eres es esa esas ese eso esos esta está están estaba estado estas este esto estos estoy fue
    fueron ha había
    han has hasta hay he hizo la las le les lo los más me mi mis mucho muy nada ni no nos nosotros o os otra otro para
    pero por porque qué que quien quién quienes se sea según ser si sí sin sobre son su sus también tan te tenía ti
    tiene tu tú tus un una uno unos usted ustedes y ya yo
    """,
    "pt": """
    a à ao aos aquela aquele aquilo as às até com como contra cujo da das de dela dele deles depois desde do
    dos e é ela
    elas ele eles em entre era eram essa esse esta está estão estava este eu foi foram há isso isto já lhe mais mas me
    meu meus minha muito na nas nem no nos nós nossa nosso num numa o onde os ou para pela pelas pelo pelos por porque
    porquê qual quais quando quanto quantos que quê quem se sem ser seu seus só sob sobre sua suas também te tem têm
    teve tinha tu um uma você vocês
    """,
    "it": """
    a ad agli ai al alla alle allo anche c che chi ci ciò coi col come con contro cosa cui da dagli dai dal
    dalla dalle
    dei degli del dell della delle dello di dove dov e è ed era erano essere fa fra fu gli ha hai hanno ho i
    il in io l
    la le lei li lo loro lui ma me mi mia mie miei mio ne nei nel nell nella nelle nello noi non nostra nostro o ogni
    per perché più poi qual quale quali quando quanta quante quanti quanto quel quella quelle quello questa queste
    questi questo qui se sei si sia siamo sono sta stata stato su sua sue sugli sui sul sulla suo suoi te ti
    tra tu tua
    tuo tutti tutto un una uno vi voi
    """,
    "nl": """
    aan al als bij daar dan dat de deze die dit doen door een en er ge geen had hadden heb hebben heeft hem
    het hier hij
    hoe hoeveel hun ik in is ja je jij jullie kan kon maar me meer men met mij mijn moet na naar niet nog nu
    of om omdat
    onder ons onze ook op over te tegen toch toen tot u uit uw van veel voor waar waarom waarmee wanneer want
    waren was
    wat we wel welk welke werd werden wie wij wil worden wordt zal ze zelf zich zij zijn zo zonder zou
    """,
    "sv": """
    alla allt att av blev bli blir de dem den denna deras dess dessa det detta dig din dina ditt du där efter ej eller
    en er era ett från för ha hade han hans har henne hennes hon honom hur här i icke in ingen inom inte jag ju kan
    kunde man med mellan men mig min mina mitt mot mycket ni nu när någon något några och om oss på samma
    sedan sig sin
    sina sitt ska skulle som så till under upp ut utan vad var vara varför varit vart vem vems vi vid vilka vilken
    vilket vår våra än är åt över
    """,
    "da": """
    af alle alt at blev blive bliver da de dem den denne der deres det dette dig din dine disse dit dog du efter eller
    en end er et for fra før gennem ham han hans har havde have hende hendes her hos hun hvad hvem hvis hvor hvordan
    hvorfor hvornår hvilken hvilket i ikke ind jeg jer jeres kan kunne man med meget mellem men mig min mine
    mit mod nu
    når og også om op os over på sig sin sine sit skal skulle som så til ud uden under var ved vi vil ville vor være
    været å at hva hvilke hvorhen ikkje mellom nar noen noe også seg vaere ble blitt
    """,
    "fi": """
    ei eivät emme en et ette että he heidän hän hänen häntä ja jo joka jonka jos jossa jotka joten kanssa keitä kenen
    kenelle ketkä ketä koska kuin kuinka kuka kun me meidän mihin mikä miksi milloin millä minun minä missä
    mistä mitkä
    mitä mukaan mutta myös ne niiden niin niitä nyt oli olimme olin olit olivat olla olen olemme olet olette on ollut
    ovat se sekä sen siellä siinä sinun sinä sitä te tai teidän tämä tämän tässä vai vaan
    """,
    "pl": """
    a aby albo ale ani bardzo bez był była było były być bo by bym ci co coś czego czemu czy dla dlaczego
    dlatego do gdy
    gdzie go i ich ile im inny iż ja jak jaka jaki jakie jako je jego jej jemu jest jestem jeszcze jeśli jeżeli już
    każdy kiedy kim kogo komu kto która które którego której który którzy lub ma mają mam mi mnie może mój
    moja moje my
    na nad nam nas nasz nie nich nim niż no o od ona one oni ono oraz po pod przed przez przy są się skąd sobie ta tak
    także tam te tego tej ten też to tu tutaj ty tych tylko tym u w we więc wy z za ze że
    """,
    "cs": """
    a aby ale ani až být bude by byl byla bylo byli co či čí do ho i já jak jaká jaké jaký je jeho jej její jejich jen
    ještě ji jsem jsi jsme jsou jste k kam kde kdo kdy kdyby když komu která které který kteří ke má mají mě
    mezi mi mně
    moje můj my na nad nám náš ne nebo než ni nic o od odkud on ona oni ono po pod podle pro proč proto před
    při s se si
    svůj ta tak také tam te tedy ten tento tím to tom tu tuto ty u už v ve vy z za ze že
    """,
    "ro": """
    a acest această acestea aceștia ai al ale am ar are as așa au avea ca când care cât câte câți ce cea cei
    cel cele ci
    cine cu cui cum da dar de deci despre din după ea ei el ele era erau este eu fi fie fost i iar îi îl în
    între își la
    le lor lui mai mă meu mea mi ne nici noi noastră nostru nu o ori pe pentru prin s sa să sale sau său se și sunt te
    tu un una unde unei unor unui va vă voi vor vostru
    """,
    "hu": """
    a abban ahhoz aki akik akkor ami amikor amit az azok azon azt be csak de e egy egyes ekkor el én ennek és ez ezek
    ezt fel ha hány hogy hogyan hol honnan hova hová is itt ki kié kik kit le lehet lesz majd már még meg melyik mely
    mert mi miatt miért mikor milyen mit most nagyon ne nem nincs ő ők pedig s sem szerint ott te ti úgy vagy
    van vannak
    volt voltak
    """,
    "tr": """
    acaba ama ancak bana bazı belki ben benden beni benim bir biri biz bize bizi bizim bu buna bunda bunlar bunu bunun
    çok çünkü da daha dahi de defa değil diye en gibi göre hangi hani hem hep her hiç için idi ile ise iki kaç
    kadar kez
    ki kim kime kimi kimin mi mı mu mü nasıl ne neden nedir nerede nereden nereye niçin niye o olan olarak oldu olduğu
    olur ona onlar onların onu onun orada sana sen seni senin siz sizin sonra şey şu şunu tüm var ve veya ya yani yok
    """,
    "vi": """
    ai anh bao bằng bị bởi các cái cho chị chưa có cô của cũng đã đang đâu đây để đến đi đó được em gì hay hơn
    không khi
    là lại làm lúc mà mình mấy mọi một nào này nên nếu nhiêu những như nhưng ở ông ra rằng rất rồi sao sau sẽ tại theo
    thì thế tôi trên trong trước từ và vẫn vào về vì với
    """,
    "id": """
    ada adalah akan aku anda apa apakah atau bagaimana bagi bahwa banyak beberapa belum berapa bila bisa bukan
    dalam dan
    dapat dari dengan di dia hanya harus ini itu jika juga kamu kami kapan karena ke kepada kita lagi maka
    mana mengapa
    mereka oleh pada para saat saja sangat saya sebagai sebuah secara sedang sejak seperti siapa sudah tapi telah
    tentang tersebut tetapi tidak untuk yaitu yang
    """,
}
# By script: no other language's words are mistaken for these
_OTHERS: Final = {
    "ru": """
    а без был была были было быть в вам вас ваш весь во вот все всё всех всего вы где да для до его ее её если
    есть ещё еще же за здесь и из или им их к как какая какие какой какого какое каком какую когда кого который
    которая которые ко кому кто куда ли либо между меня мне много мой мое моё мои моя мы на над нам нас наш не
    него нее неё нет ни них но ну о об однако он она они оно от откуда очень по под потому почему при про с сам
    своей свой свою себе себя со так также такой там те тебе тебя тем то тоже только том тот ты у уже чего чей
    чем через что чтобы чьё чья эта эти это этого этой этом этот я
    """,
    "uk": """
    або але б був була були було бути вам вас від він вона вони воно все всі в де дуже для до ж за з зі і із її
    їй їм їх й його йому коли котрий кого кому куди ми мій моя на над нам нас наш не ні ними о от по при про с
    свій себе та так також там те тебе ти то тобі того той тут у уже хто це цей ця чи чого чому що щоб як яка
    яке який які яку я
    """,
    "bg": """
    аз ако беше бил била бъде в вече ви вие все го да дали до докато за защо и из или им има как каква какво
    какъв като кога когато кого кое които кой която къде ли ме ми мога много му на над най не нея ни ние но от
    по под при с са се си след съм със така там те тези ти то това този той тя ѝ че ще
    """,
    "el": """
    αλλά αν από αυτά αυτή αυτό αυτός για γιατί δε δεν εάν εγώ είναι είχε εκείνος εμείς ένα ένας εσείς εσύ έχει
    έχω η ήταν θα και κατά με μετά μη μην μια μου να ο οι όπου όπως όταν ότι που πού πόσα πόσο πότε ποια ποιο
    ποιος πριν προς πώς πως σαν σας σε στα στη στην στις στο στον στους τα τη της την τι τις το τον του τους των
    ως
    """,
    "he": """
    אבל או אותה אותו אותי אותם אז איך אין איפה איזה איזו אל אלה אם אנחנו אני אף את אתה אתם בין במה בשביל גם האם
    הוא היא היה היו היכן היתה הם הן הנה הרי זאת זה זו יש כאן כאשר כי כל כמה כמו כן לא לאן לה להם לו לי לכם למה
    לנו לפני מאוד מאיפה מדוע מה מי מן מתי עד על עם פה רק של שלה שלו שלי שלך שם
    """,
    "ar": """
    أحد إذا إلا إلى أم أن أنا أنت أنها أو أي أين أيضا أية بعد بعض بل بين التي الذي الذين ثم حتى حول حيث دون ذلك
    سوف عليه على عن عند عندما غير فقط في فيه فيها قبل قد كان كانت كل كم كما كيف لا لدى لقد لكن لم لماذا لن له
    لها لو ليس ما ماذا متى مع مثل من منذ منه منها نحن هذا هذه هل هم هن هنا هناك هو هي و يا
    """,
    "fa": """
    آن آنها اگر است این با باید بر برای بود بودند به پس تا تو چرا چطور چقدر چگونه چند چه چون چیست خود در دو را
    شد شده شما کجا که کی کدام ما من می نه نیز نیست هر هم همه و یا یک
    """,
    "hi": """
    अपना अपनी अपने अब आप इन इस इसका इसकी इसके इसमें इसे उन उनका उनकी उनके उस उसका उसकी उसके उसे एक और कई कब कहाँ
    कहां का कि कितना कितनी कितने किन किस किसका किसकी किसके किसने किसी किसे की कुछ के को कोई कौन क्या क्यों जब
    जहाँ जो तक तब तुम तो था थी थे ने नहीं पर भी मुझे मेरा मेरी मेरे में मैं यह यहाँ या ये रहा रही रहे लिए वह
    वहाँ वाला वाली वाले वे से हम हमारा हमारी हमारे ही हुआ हुई हुए हूँ है हैं हो होता होती होते
    """,
    "zh": """
    什么 什么时候 时候 哪里 哪儿 哪个 哪些 哪年 哪天 怎么 怎样 为什么 多少 谁的 是谁 是什么 的是 了吗 是不是
    有没有 我们 你们 他们 她们 这个 那个 这些 那些 一个 因为 所以 但是 如果 甚麼 什麼 什麼時候 時候 哪裡 怎麼
    為什麼 誰的 是誰 我們 你們 他們 這個 那個
    """,
    "ja": """
    いつ どこ だれ 誰が 誰と 誰の なに なん 何を 何が 何の 何で なぜ どう どの どれ どんな いくら いくつ です
    でした ですか でしょうか ます ました ましたか ません ている ていた ていま いました しました した する して
    から まで より など これ それ あれ この その あの ここ そこ ある あり いる という こと もの さん とは には
    では のは
    """,
    "ko": """
    언제 어디 어디서 어디에 누구 누가 무엇 무엇을 무슨 왜 어떻게 어느 얼마나 몇 에서 에게 으로 부터 까지 에는
    에도 습니다 습니까 입니다 입니까 했습 했나 했나요 하는 한다 하다 있는 있다 있습 그리고 하지만 그러나 나는
    나의 너는 그는 그녀 우리 이것 그것 저것
    """,
    "th": """
    เมื่อไหร่ เมื่อไร ที่ไหน ไหน อะไร ใคร ทำไม อย่างไร ยังไง เท่าไหร่ เท่าไร กี่ และ หรือ แต่ ของ ที่ ใน กับ จาก
    เป็น คือ ไม่ ได้ ให้ ว่า นี้ นั้น มี ไป มา แล้ว จะ ก็ ครับ ค่ะ คะ
    """,
}
# What an English sentence may hold as a word of its own: no evidence of another language
_TOO: Final = """
    ad ah ai al ale alt anda ant ante are art at bad bald bang bed ben bin bis but by can car care cat chat come con
    cum da dan data dei del den der des detta di die dies din dig do dog don door du e east ei el ella em en end er
    era es et fa fall far fat fi fin for fra from gab get go god had hat has hay he hell her hem hen her here hers
    hey hi him hot hut i ii in is it ja just la land lay le les let lo los ma man mad mama mane mar me men met mi
    mind mine mir mis more most mot mu my na nah nay net no nor not now nu o of old om on once one op or os ought
    over own pan para pas pay pe per plan pour pro put quest re rid ring rock said se sea seat see sei self ses she
    sent set sh si sin sir sit so sole son sous sport sur ta tan te ten than that the them then they this ti tin to
    ton tons too top tot tu tut un una under une up us van vi via vol want war was we well were west who will with
    won word yo you
"""


def _listed(text: str) -> frozenset[str]:
    return frozenset(term for word in text.split() for term in terms(word))


ENGLISH: Final = _listed(_ENGLISH)
_ENGLISH_TOO: Final = _listed(_TOO)
LATIN: Final = {language: _listed(text) for language, text in _LATIN.items()}
OTHERS: Final = _listed(" ".join(_OTHERS.values()))
_FUNCTION_WORDS: Final = {language: listed | OTHERS for language, listed in (LATIN | {"en": ENGLISH}).items()}
_LANGUAGES: Final = {
    word: [language for language, listed in (LATIN | {"en": ENGLISH}).items() if word in listed]
    for word in ENGLISH.union(*LATIN.values())
    if len(word) > 1
}


def of(words: list[str]) -> frozenset[str]:
    """The function words of the language that these words (folded, distinct) are of, and of all other scripts."""
    found = [language for word in words for language in _LANGUAGES.get(word, ())]
    told = Counter(language for word in words if word not in _ENGLISH_TOO for language in _LANGUAGES.get(word, ()))
    everything = Counter(found)
    best = max(everything, key=lambda language: (told[language], language == "en", everything[language]), default="en")
    return _FUNCTION_WORDS[best]
