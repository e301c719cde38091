/** The words of one language, loaded when asked for. Does not know what they are for. */

export const LANGUAGES = ["en", "de", "es", "ar"];

/**
 * @param {string} wanted a language tag; what is not spoken here becomes English
 * @returns {Promise<{lang: string, dir: string, say: (name: string, values?: Record<string, any>) => string}>}
 */
export async function loadWords(wanted) {
  const short = wanted.toLowerCase().split("-")[0];
  const lang = LANGUAGES.includes(short) ? short : "en";
  const { default: words } = await import(`./locales/${lang}.js`);
  const rules = new Intl.PluralRules(lang);
  return {
    lang,
    dir: lang === "ar" ? "rtl" : "ltr",
    say(name, values = {}) {
      const word = words[name];
      const form = typeof word === "string" ? word : (word[rules.select(values.n)] ?? word.other);
      return form.replace(/\{(\w+)\}/g, (_, key) => String(values[key]));
    },
  };
}
