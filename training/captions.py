"""Prompts for each class of sound: those in presets.json and paraphrases of our own.

Two wordings of each class and two templates are held out of training. They combine known words in
new ways; such a small encoder, trained only on these words, can't know others.
"""

import json
import random
import re
from pathlib import Path

from training.arrangements import ARRANGEMENTS

PRESETS = Path(__file__).resolve().parent.parent / "contract" / "presets.json"

PHRASES: dict[str, tuple[str, ...]] = {
    "nylon_guitar": ("nylon string guitar", "classical guitar", "acoustic guitar, plucked", "fingerpicked guitar",
                     "Spanish guitar", "solo guitar with nylon strings"),
    "church_organ": ("church organ", "pipe organ", "cathedral organ", "organ with full stops",
                     "baroque pipe organ in a church", "an organist in a cathedral"),
    "accordion_folk": ("accordion", "French musette accordion", "folk accordion with upright bass", "squeezebox waltz",
                       "street café accordion", "a Parisian accordion player"),
    "banjo_bluegrass": ("banjo", "bluegrass banjo and fiddle", "five-string banjo", "Appalachian string band",
                        "fast banjo picking", "country hoedown with banjo"),
    "piano_classical": ("piano", "grand piano", "classical piano", "solo piano, romantic",
                        "concert grand", "a pianist playing Chopin"),
    "celtic": ("celtic harp and whistle", "Irish folk tune", "tin whistle and bodhrán", "flute and harp",
               "Celtic folk ensemble", "an Irish session with whistle and harp"),
    "strings_quartet": ("string quartet", "strings", "violins, viola and cello", "chamber strings, legato",
                        "orchestral strings", "a bowed string ensemble"),
    "synth_retro": ("analog synthesizer", "vintage polysynth", "seventies sawtooth synth", "retro synth with a fat bass",
                    "old analog keyboard", "a warm vintage synthesizer"),
    "synth_modern": ("modern synthesizer", "supersaw chords", "clean digital synth plucks", "bright polished synths",
                     "contemporary pop synths", "sleek modern synth sound"),
    "synth_ambient": ("ambient pad", "synth pad", "slow evolving pads", "meditative drone with reverb",
                      "a soft warm pad", "floating ambient synthesizer"),
    "synth_edm": ("EDM lead", "festival EDM", "detuned lead synth and kick drum", "big room house",
                  "stadium dance music", "euphoric rave leads"),
    "rock_band": ("rock band", "overdriven electric guitar", "distorted guitars, bass and drums", "hard rock",
                  "electric guitar rock", "a loud garage band"),
    "cinematic_epic": ("epic orchestra", "brass, choir and taiko drums", "cinematic trailer music", "heroic film score",
                       "huge orchestral soundtrack", "a blockbuster score with choir"),
    "lofi_chill": ("lo-fi hip hop", "chillhop electric piano", "mellow lo-fi beat with vinyl crackle", "study beats",
                   "relaxing lofi", "a sleepy lo-fi tape"),
    "synth_bass": ("synth bass", "deep bass synthesizer", "resonant bass line with filter sweeps", "808 bass",
                   "funky electronic bass", "a dark bass synth"),
    "retro_rpg": ("16-bit game music", "role-playing game score", "console flute and bells", "old video game strings",
                  "SNES style fantasy music", "music of a pixel village"),
    "steel_drums": ("steel drums", "steel pans and congas", "calypso band", "Caribbean steelpan",
                    "island music with pans", "a Trinidadian steel band"),
    "chiptune": ("chiptune", "8-bit square waves", "arcade game music", "game console beeps and arpeggios",
                 "NES style chip music", "an eight-bit handheld tune"),
    "gamelan_fusion": ("gamelan", "Balinese metallophones", "bronze gongs and pads", "Indonesian gamelan with electronics",
                       "Javanese gamelan", "metallophones and gongs from Bali"),
    "music_box": ("music box", "wind-up music box", "tiny metallic chimes", "lullaby on a music box",
                  "a delicate musical box", "a child's toy music box"),
    "trap_808": ("trap beat", "808 bass and hi-hat rolls", "dark trap with bells", "hard southern trap",
                 "modern trap instrumental", "a menacing trap beat"),
    "lo_fi_drums": ("lo-fi drums", "dusty drum loop", "bit-crushed drums and tape hiss", "soft lazy drum beat",
                    "crunchy tape drums", "a hazy lo-fi drum groove"),
    "boom_bap": ("boom bap", "nineties hip hop", "sampled drum break with horns", "jazzy hip hop with upright bass",
                 "old school New York rap beat", "a gritty golden age beat"),
    "percussion_ensemble": ("percussion ensemble", "congas, djembe and shakers", "hand drums", "African and Latin percussion",
                            "a drum circle", "tribal hand percussion"),
    "future_bass": ("future bass", "pumping chords and vocal chops", "lush sidechained synths", "melodic future bass",
                    "dreamy festival bass music", "sparkling wonky chords"),
    "synthwave_retro": ("synthwave", "eighties synths with gated drums", "neon retrowave", "pulsing analog bass and leads",
                        "outrun style music", "an eighties film chase"),
    "melodic_techno": ("melodic techno", "four-on-the-floor techno", "hypnotic plucks and a rolling bass", "deep driving techno",
                       "progressive house", "a sunrise techno set"),
    "dubstep_wobble": ("dubstep", "wobble bass", "growling bass with half-time drums", "heavy brostep",
                       "filthy bass drop", "an aggressive wobbling bass"),
    "glitch_hop": ("glitch hop", "stuttering funky beats", "chopped synth stabs", "quirky glitch funk",
                   "broken funky electronica", "swaggering chopped beats"),
    "digital_disruption": ("digital glitches", "data bursts and silences", "bit-crushed glitch electronica", "buffer stutters",
                           "corrupted computer sounds", "a broken digital signal"),
    "circuit_bent": ("circuit-bent toys", "broken toy keyboard", "squealing toy electronics", "misfiring beeps",
                     "a hacked toy synthesizer", "bent toy circuits"),
    "orchestral_glitch": ("glitched orchestra", "orchestra with digital stutters", "sliced strings and brass", "broken symphony",
                          "a stuttering orchestra", "chopped-up orchestral music"),
    "vapor_drums": ("vaporwave drums", "slowed gated snares", "washed-out eighties drums", "vaporwave with electric piano",
                    "a surreal mall soundtrack", "hazy slowed-down drums"),
    "industrial_textures": ("industrial noise", "clanging metal and distortion", "distorted machine rhythms", "dark factory drones",
                            "harsh industrial music", "machines in an abandoned factory"),
    "jungle_breaks": ("jungle", "drum and bass breakbeats", "chopped amen breaks", "nineties jungle with sub bass",
                      "fast rave breakbeats", "frantic breaks and ghostly pads"),
}  # fmt: skip
HELD_OUT: dict[str, tuple[str, ...]] = {
    "nylon_guitar": ("plucked Spanish guitar with nylon strings", "solo classical guitar, fingerpicked"),
    "church_organ": ("baroque church organ", "full pipe organ in a cathedral"),
    "accordion_folk": ("French folk accordion", "a musette squeezebox"),
    "banjo_bluegrass": ("fast bluegrass picking on a banjo", "Appalachian banjo and fiddle"),
    "piano_classical": ("solo classical concert piano", "romantic grand piano"),
    "celtic": ("Irish harp and flute", "a Celtic tune on the tin whistle"),
    "strings_quartet": ("legato violins and cello", "bowed chamber quartet of strings"),
    "synth_retro": ("warm seventies analog synth", "a retro sawtooth polysynth"),
    "synth_modern": ("polished supersaw synths", "clean contemporary digital plucks"),
    "synth_ambient": ("slow floating pads", "a soft meditative synth drone"),
    "synth_edm": ("festival lead synth, euphoric", "big stadium EDM with a kick drum"),
    "rock_band": ("loud distorted rock guitars", "hard electric guitar with bass and drums"),
    "cinematic_epic": ("heroic trailer score with choir", "epic brass and taiko drums"),
    "lofi_chill": ("mellow chillhop with vinyl crackle", "relaxing lo-fi electric piano"),
    "synth_bass": ("resonant deep synth bass", "a funky bass synthesizer with sweeps"),
    "retro_rpg": ("16-bit fantasy game score", "old console role-playing music"),
    "steel_drums": ("calypso steel pans", "Caribbean steel drums with congas"),
    "chiptune": ("8-bit arcade beeps", "square wave chip music for a console game"),
    "gamelan_fusion": ("Balinese gamelan gongs", "bronze metallophones from Bali"),
    "music_box": ("a tiny music box lullaby", "delicate wind-up chimes"),
    "trap_808": ("hard 808 trap", "dark trap beat with hi-hat rolls"),
    "lo_fi_drums": ("dusty lo-fi drum loop with tape hiss", "soft crunchy drums, lo-fi"),
    "boom_bap": ("old school boom bap", "nineties rap beat with a jazzy bass"),
    "percussion_ensemble": ("hand percussion with djembe and congas", "Latin drum circle"),
    "future_bass": ("lush future bass with vocal chops", "melodic pumping bass music"),
    "synthwave_retro": ("neon eighties synthwave", "retrowave leads with gated drums"),
    "melodic_techno": ("hypnotic melodic techno", "deep four-on-the-floor with rolling bass"),
    "dubstep_wobble": ("growling dubstep wobble", "heavy half-time wobble bass"),
    "glitch_hop": ("funky glitch hop beats", "quirky stuttering synth stabs"),
    "digital_disruption": ("bit-crushed data bursts", "broken digital buffer stutters"),
    "circuit_bent": ("squealing circuit-bent keyboard", "hacked toy electronics"),
    "orchestral_glitch": ("glitched symphony orchestra", "stuttering sliced strings and brass"),
    "vapor_drums": ("hazy vaporwave", "washed-out gated drums, slowed"),
    "industrial_textures": ("clanging industrial machines", "harsh distorted factory noise"),
    "jungle_breaks": ("frantic jungle breakbeats", "nineties drum and bass with chopped breaks"),
}  # fmt: skip
MOODS = (
    "warm",
    "dark",
    "bright",
    "calm",
    "energetic",
    "slow",
    "lively",
    "expressive",
    "simple",
    "gentle",
)
TEMPLATES = (
    "{0}",
    "{0}",
    "{0}, {1}",
    "a {1} piece with {0}",
    "{1} {0}",
    "turn it into {0}",
    "play this as {0}",
    "give me {0}",
    "I want {0}, please, but {1}",
    "arranged for {0}",
    "let us hear {0}",
    "now with {0}, {1}",
)
HELD_OUT_TEMPLATES = ("the same music for {0}", "make it sound like {0}, {1}")


def presets() -> dict[str, str]:
    """The variations' prompts in presets.json."""
    return {n: v["prompt"] for n, v in json.loads(PRESETS.read_text())["variations"].items()}


PROMPTS = {name: presets().get(name, PHRASES[name][0]) for name in ARRANGEMENTS}


def training(name: str, rng: random.Random) -> str:
    """A random training prompt for a class: a third are the variation's own prompt; the rest are
    parts of it, paraphrases, or words from two of these."""
    kind = rng.random()
    if kind < 0.33:
        return PROMPTS[name]
    if kind < 0.5:  # its beginning, up to a comma or an "and"
        ends = [match.start() for match in re.finditer(r",| and | with ", PROMPTS[name])]
        return PROMPTS[name][: rng.choice(ends)] if ends else PROMPTS[name]
    phrase = rng.choice(PHRASES[name]) if rng.random() < 0.5 else recombined(name, rng)
    made = rng.choice(TEMPLATES).format(phrase, rng.choice(MOODS))
    return made if rng.random() < 0.7 else made[0].upper() + made[1:] + rng.choice(("", "."))


def recombined(name: str, rng: random.Random) -> str:
    """Two to six words from two of the class's wordings, in order; never all the words of a
    held-out wording."""
    kept_back = [set(_words(wording)) for wording in HELD_OUT[name]]
    while True:
        one, other = rng.sample((PROMPTS[name], *PHRASES[name]), 2)
        words = _words(f"{one} {other}")
        kept = sorted(rng.sample(range(len(words)), min(len(words), rng.randint(2, 6))))
        made = [words[i] for i in kept]
        if not any(wording <= set(made) for wording in kept_back):
            return " ".join(made)


def _words(wording: str) -> list[str]:
    return wording.replace(",", "").split()


def held_out(name: str, rng: random.Random) -> str:
    """A paraphrase that is never used in training."""
    phrase = rng.choice(HELD_OUT[name])
    return rng.choice((*HELD_OUT_TEMPLATES, "{0}")).format(phrase, rng.choice(MOODS))
